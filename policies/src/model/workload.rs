use super::ResourceName;

/// What the sidecar of one pod is told of itself: which Services it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The pod.
    pub name: ResourceName,
    /// In their order; each once.
    pub services: Vec<ResourceName>,
}

/// The answer to a sidecar that asked what there is by a name that its application called: everything that is to be
/// known of it was told before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// A host without port, in lower case, or an IP address.
    pub key: String,
    /// Whether it is anything of the mesh.
    pub known: bool,
}
