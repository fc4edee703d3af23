//! YAML text -> located, typed documents; all errors at once, each with path and line.

pub mod schema {
    //! JSON schemas from types.
    pub fn generate<T: schemars::JsonSchema>() -> schemars::Schema {
        schemars::SchemaGenerator::default().into_root_schema_for::<T>()
    }
}
