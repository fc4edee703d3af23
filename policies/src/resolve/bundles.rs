//! ConfigMaps -> bundles of CA certificates.

use super::objects::Objects;
use super::pem;
use crate::model::ResourceName;

/// Where a ConfigMap has its bundle (Gateway API, `caCertificateRefs`).
const KEY: &str = "ca.crt";

/// Why a caCertificateRef cannot be used.
#[derive(Debug)]
pub(super) enum Invalid {
    /// It is of a kind that holds no bundle.
    Kind(String),
    /// There is no such object, or no bundle in it.
    Object(String),
}

/// The bundle that a reference leads to, in PEM.
pub(super) fn find(
    objects: &Objects<'_>,
    (group, kind): (&str, &str),
    name: &ResourceName,
) -> Result<Vec<u8>, Invalid> {
    if (group, kind) != ("", "ConfigMap") {
        let kind = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        return Err(Invalid::Kind(format!("a {kind} holds no CA certificates; use a ConfigMap")));
    }
    let invalid = |why: String| Invalid::Object(why);
    let object = objects.config_maps.get(name);
    let object = object.ok_or_else(|| invalid(format!("there is no ConfigMap {name}")))?;
    let bundle = object.spec.get(KEY);
    let mut bundle = bundle.ok_or_else(|| invalid(format!("ConfigMap {name} has no `{KEY}`")))?;
    pem::check_bundle(&bundle)
        .map_err(|why| invalid(format!("ConfigMap {name} has a `{KEY}` that {why}")))?;
    // Bundles are joined, and not every editor ends the last line.
    if !bundle.ends_with(b"\n") {
        bundle.push(b'\n');
    }
    Ok(bundle)
}
