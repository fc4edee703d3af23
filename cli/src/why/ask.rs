//! Whom to ask: a control plane, or proxies one by one.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use http::Uri;
use tidegate_control_plane::decisions::Why;
use tidegate_policy::decision::DecisionRecord;

use crate::http_client::Client;
use crate::status::resolve;

/// The control plane itself waits for proxies no longer than two seconds.
const DEADLINE: Duration = Duration::from_secs(8);

/// # Errors
/// It cannot be asked.
pub(super) async fn control_plane(url: &Uri, id: &str) -> Result<Why> {
    let text = get(url, &format!("/why?id={}", encode(id)))
        .await
        .with_context(|| format!("cannot ask {url}; is a control plane running there? (--control-plane)"))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{url} does not answer like a control plane of this version"))
}

/// Those that do not answer are told of as silent.
pub(super) async fn proxies(urls: &[Uri], id: &str) -> Why {
    let (mut why, mut silent) = (Why { id: id.to_owned(), ..Why::default() }, Vec::new());
    // All at once: one that is silent does not make the others late.
    let asked: Vec<_> = urls.iter().map(|url| tokio::spawn(proxy(url.clone(), id.to_owned()))).collect();
    for (url, asked) in urls.iter().zip(asked) {
        match asked.await.map_err(Into::into).flatten() {
            Ok(hops) => why.add(hops),
            Err(error) => silent.push(format!("{url} ({error:#})")),
        }
    }
    why.close(silent);
    why
}

async fn proxy(url: Uri, id: String) -> Result<Vec<DecisionRecord>> {
    let text = get(&url, &format!("/decisions?id={}", encode(&id))).await?;
    serde_json::from_str(&text).context("it does not answer like a proxy of this version")
}

async fn get(url: &Uri, path: &str) -> Result<String> {
    let authority = url.authority().ok_or_else(|| anyhow!("write it like http://127.0.0.1:15014"))?;
    if url.scheme_str().is_some_and(|scheme| scheme != "http") {
        bail!("the admin port speaks plain http");
    }
    let address = resolve(authority.host(), authority.port_u16().unwrap_or(80)).await?;
    Client::new(address, DEADLINE).get_text(path).await
}

/// As a value in a query.
fn encode(id: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    id.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn an_id_of_any_signs_stays_one_value() {
        assert_eq!(encode("9c1f-0a"), "9c1f-0a");
        assert_eq!(encode("a&b=c/ü %"), "a%26b%3Dc%2F%C3%BC%20%25");
    }
}
