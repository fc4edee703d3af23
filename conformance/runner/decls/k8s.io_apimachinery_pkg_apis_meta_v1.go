// Our own words for the few names that the suite takes from elsewhere.
// Package v1 declares as much of Kubernetes' meta/v1 as the suite reads.
package v1

type TypeMeta struct {
	Kind       string `json:"kind,omitempty"`
	APIVersion string `json:"apiVersion,omitempty"`
}

type GroupVersion struct {
	Group   string
	Version string
}

type ListMeta struct {
	ResourceVersion string `json:"resourceVersion,omitempty"`
}

type ObjectMeta struct {
	Name              string            `json:"name,omitempty"`
	Namespace         string            `json:"namespace,omitempty"`
	UID               string            `json:"uid,omitempty"`
	ResourceVersion   string            `json:"resourceVersion,omitempty"`
	Generation        int64             `json:"generation,omitempty"`
	CreationTimestamp Time              `json:"creationTimestamp,omitempty"`
	DeletionTimestamp *Time             `json:"deletionTimestamp,omitempty"`
	Labels            map[string]string `json:"labels,omitempty"`
	Annotations       map[string]string `json:"annotations,omitempty"`
	Finalizers        []string          `json:"finalizers,omitempty"`
}

func (m *ObjectMeta) GetName() string          { return m.Name }
func (m *ObjectMeta) GetNamespace() string     { return m.Namespace }
func (m *ObjectMeta) GetGeneration() int64     { return m.Generation }
func (m *ObjectMeta) GetUID() string           { return m.UID }
func (m *ObjectMeta) SetFinalizers(f []string) { m.Finalizers = f }

type Time string

type Object interface{}

type ConditionStatus string

const (
	ConditionTrue    ConditionStatus = "True"
	ConditionFalse   ConditionStatus = "False"
	ConditionUnknown ConditionStatus = "Unknown"
)

type Condition struct {
	Type               string          `json:"type"`
	Status             ConditionStatus `json:"status"`
	ObservedGeneration int64           `json:"observedGeneration,omitempty"`
	LastTransitionTime Time            `json:"lastTransitionTime"`
	Reason             string          `json:"reason"`
	Message            string          `json:"message"`
}

type LabelSelector struct {
	MatchLabels      map[string]string          `json:"matchLabels,omitempty"`
	MatchExpressions []LabelSelectorRequirement `json:"matchExpressions,omitempty"`
}

type LabelSelectorRequirement struct {
	Key      string   `json:"key"`
	Operator string   `json:"operator"`
	Values   []string `json:"values,omitempty"`
}

func LabelSelectorAsSelector(s *LabelSelector) (map[string]string, error) { return s.MatchLabels, nil }
