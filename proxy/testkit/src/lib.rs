//! Parts for tests: a scripted control plane, backends that misbehave on demand, clients.

pub mod control_plane;
