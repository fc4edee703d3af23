// Our own words for the few names that the suite takes from elsewhere.
// Package v1 declares as much of Kubernetes' apps/v1 as the suite reads.
package v1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

type DeploymentSpec struct {
	Selector *metav1.LabelSelector `json:"selector"`
}

type Deployment struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              DeploymentSpec `json:"spec,omitempty"`
}
