// Our own words for the few names that the suite takes from elsewhere.
// Package schema declares names of kinds.
package schema

type GroupKind struct {
	Group string
	Kind  string
}

type GroupVersion struct {
	Group   string
	Version string
}
