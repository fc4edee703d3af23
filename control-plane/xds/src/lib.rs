//! Delta xDS as sans-I/O state machines, with thin tonic adapters.
