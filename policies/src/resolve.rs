//! Documents -> [`crate::model::Resources`]: looks up parents and backends, and says in conditions what it found.
