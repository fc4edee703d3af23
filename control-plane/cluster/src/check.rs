//! `tidegate check`: is everything there that a mesh in this cluster needs.
