// Our own words for the few names that the suite takes from elsewhere.
// Package types declares names of objects.
package types

import "fmt"

type NamespacedName struct {
	Namespace string
	Name      string
}

func (n NamespacedName) String() string { return fmt.Sprintf("%s/%s", n.Namespace, n.Name) }
