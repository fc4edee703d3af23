//! The data plane: accepts connections, asks the policy core, moves the bytes.
