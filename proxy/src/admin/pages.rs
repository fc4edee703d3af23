//! What each page of the admin port says.
