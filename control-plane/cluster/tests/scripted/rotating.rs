use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tidegate_cluster::identity::{RotateError, rotate};
use tidegate_identity::material::{MaterialError, NEXT_CERT, NEXT_KEY, ROTATION};
use tidegate_identity::{Material, TrustDomain};

use crate::api::Api;
use crate::objects::cluster;

const PLACE: (&str, &str) = ("mesh", "tidegate-ca");
const DAY: Duration = Duration::from_secs(24 * 3600);

fn domain() -> TrustDomain {
    TrustDomain::DEFAULT.parse().unwrap()
}

fn secret(data: &Value) -> Value {
    let metadata = json!({ "name": PLACE.1, "namespace": PLACE.0, "labels": { "team": "mesh" } });
    json!({ "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": data })
}

fn encoded(material: &Material) -> Value {
    material.0.iter().map(|(name, bytes)| (name.clone(), json!(BASE64_STANDARD.encode(bytes)))).collect()
}

fn stored(api: &Api) -> Value {
    api.get("Secret", PLACE.0, PLACE.1).unwrap()
}

async fn rotated(api: &Api) -> Result<(), RotateError> {
    rotate(api.client(), PLACE, |material| material.rotate(&domain(), SystemTime::now(), DAY)).await
}

#[tokio::test]
async fn a_rotation_is_written_beside_the_root_that_is_there_and_whatever_else_is() {
    let api = Api::start(cluster()).await;
    let root = Material::generate(&domain(), SystemTime::now()).unwrap();
    let mut data = encoded(&root);
    data["notes.txt"] = json!("bWluZQ==");
    let before = api.put(secret(&data));
    rotated(&api).await.unwrap();
    let after = stored(&api);
    for (name, value) in data.as_object().unwrap() {
        assert_eq!(&after["data"][name], value, "{name} is as it was");
    }
    for name in [NEXT_CERT, NEXT_KEY, ROTATION] {
        assert!(after["data"][name].is_string(), "{name}: {after}");
    }
    assert_eq!(after["metadata"]["labels"], json!({ "team": "mesh" }));
    let written = api.requests(|seen| seen.method == "PUT");
    assert_eq!(written.len(), 1);
    assert_eq!(
        written[0].body["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"],
        "only over what was read"
    );

    let again = rotated(&api).await.unwrap_err();
    assert!(matches!(again, RotateError::Material(_, MaterialError::UnderWay(_))), "{again}");
    assert_eq!(stored(&api), after, "one rotation at a time");
}

#[tokio::test]
async fn whoever_writes_meanwhile_is_not_written_over() {
    let api = Api::start(cluster()).await;
    let [root, other] = [0, 1].map(|_| Material::generate(&domain(), SystemTime::now()).unwrap());
    api.put(secret(&encoded(&root)));
    let to = |material: &Material| {
        api.put(secret(&encoded(&other)));
        material.rotate(&domain(), SystemTime::now(), DAY)
    };
    let failed = rotate(api.client(), PLACE, to).await.unwrap_err();
    assert!(matches!(failed, RotateError::Conflict(_)), "{failed}");
    assert_eq!(stored(&api)["data"], encoded(&other));
}

#[tokio::test]
async fn what_cannot_be_rotated_is_left_as_it_is_and_nothing_of_it_is_told() {
    let api = Api::start(cluster()).await;
    let none = rotated(&api).await.unwrap_err().to_string();
    assert!(none.contains("no authority in Secret mesh/tidegate-ca"), "{none}");
    api.put(secret(&json!({ "notes.txt": "bWluZQ==" })));
    assert!(matches!(rotated(&api).await, Err(RotateError::Nothing(_))));
    for (key, value) in [("ca-key.pem", "c2VjcmV0!"), (ROTATION, "c2VjcmV0")] {
        let mut data = encoded(&Material::generate(&domain(), SystemTime::now()).unwrap());
        data[key] = json!(value);
        let before = api.put(secret(&data));
        let failed = rotated(&api).await.unwrap_err();
        let told = format!("{failed} {failed:?}");
        assert!(told.contains(key) && !told.contains("secret") && !told.contains("c2VjcmV0"), "{told}");
        assert_eq!(stored(&api), before);
    }
    api.go_away();
    let away = rotated(&api).await.unwrap_err().to_string();
    assert!(away.starts_with("Secret mesh/tidegate-ca: "), "{away}");
}
