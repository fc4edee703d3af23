//! Target refs -> the effective policy per scope, and the conditions that tell a policy's author about it.
