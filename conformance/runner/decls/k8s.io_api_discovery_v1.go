// Our own words for the few names that the suite takes from elsewhere.
// Package v1 declares as much of Kubernetes' discovery/v1 as the suite reads.
package v1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type EndpointConditions struct {
	Ready       *bool `json:"ready,omitempty"`
	Serving     *bool `json:"serving,omitempty"`
	Terminating *bool `json:"terminating,omitempty"`
}

type Endpoint struct {
	Addresses  []string                `json:"addresses"`
	Conditions EndpointConditions      `json:"conditions,omitempty"`
	TargetRef  *corev1.ObjectReference `json:"targetRef,omitempty"`
	NodeName   *string                 `json:"nodeName,omitempty"`
}

type EndpointPort struct {
	Name        *string `json:"name,omitempty"`
	Protocol    *string `json:"protocol,omitempty"`
	Port        *int32  `json:"port,omitempty"`
	AppProtocol *string `json:"appProtocol,omitempty"`
}

type EndpointSlice struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	AddressType       string         `json:"addressType"`
	Endpoints         []Endpoint     `json:"endpoints"`
	Ports             []EndpointPort `json:"ports"`
}
