//! What a person does to the authority's Secret by hand. Control planes only ever read it, once it is there.

use kube::Client;
use kube::api::PostParams;
use tidegate_identity::Material;
use tidegate_identity::material::MaterialError;

use super::secret::{material_of, object};
use crate::errors::{in_time, told};
use crate::secrets::secrets;

/// Never with anything of what is in the Secret.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    #[error("there is no authority in Secret {0}: a control plane makes one, or somebody brings it")]
    Nothing(String),
    #[error(
        "Secret {0}: somebody else has written it at the same time, so nothing was changed: see what it is now"
    )]
    Conflict(String),
    #[error("Secret {0}: {1}")]
    Material(String, MaterialError),
    #[error("Secret {0}")]
    Unreadable(String, #[source] std::io::Error),
    #[error("Secret {0}: {1}")]
    Api(String, String),
}

/// Writes `to` of what is in the Secret in its place, if that is still what is stored: two who rotate at one time cannot
/// write over each other. What else is in it is kept.
///
/// # Errors
/// There is nothing to rotate, `to` refuses, somebody was faster, or the API does not answer within 10 s.
pub async fn rotate(
    client: Client,
    (namespace, name): (&str, &str),
    to: impl FnOnce(&Material) -> Result<Material, MaterialError>,
) -> Result<(), RotateError> {
    let api = secrets(client, namespace);
    let named = || format!("{namespace}/{name}");
    let failed = |error: &kube::Error| RotateError::Api(named(), told(error));
    let before = in_time(api.get_opt(name)).await.map_err(|error| failed(&error))?;
    let before = before.ok_or_else(|| RotateError::Nothing(named()))?;
    let material = material_of(name, &before).map_err(|error| RotateError::Unreadable(named(), error))?;
    if material.is_empty() {
        return Err(RotateError::Nothing(named()));
    }
    let rotated = to(&material).map_err(|error| RotateError::Material(named(), error))?;
    let written = object(name, &rotated, Some(&before));
    match in_time(api.replace(name, &PostParams::default(), &written)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Err(RotateError::Conflict(named())),
        Err(error) => Err(failed(&error)),
    }
}
