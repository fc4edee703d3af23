//! The Common and Combined Log Format, as Apache and nginx write them; also with the virtual host before each line.

use std::borrow::Cow;

use http::header::{REFERER, USER_AGENT};

use super::{Header, Said, moment};

/// `host ident user [time] "GET /path HTTP/1.1" status bytes "referer" "user agent"`, the last two or not.
pub(super) fn read<'a>(line: &'a [u8], said: &mut Said<'a>) -> Result<(), &'static str> {
    let line = std::str::from_utf8(line).map_err(|_| "it is not UTF-8")?.trim();
    let (before, rest) = line.split_once(" [").ok_or("it has no time in brackets")?;
    let (time, rest) = rest.split_once("] ").ok_or("it has no time in brackets")?;
    said.at = moment::common(time.as_bytes());
    let mut names = before.split(' ');
    let (first, second) = (names.next().unwrap_or_default(), names.next());
    // `%v:%p %h %l %u`: one more than without it.
    match (names.clone().count(), second) {
        (2.., Some(client)) if client != "-" => {
            (said.host, said.client) = (Some(Cow::Borrowed(first)), Some(Cow::Borrowed(client)));
        }
        _ => said.client = Some(Cow::Borrowed(first)),
    }
    let rest = rest.strip_prefix('"').ok_or("it has no request in quotes")?;
    let (request, rest) = quoted(rest).ok_or("its request does not end")?;
    let mut words = request.split(' ');
    said.method = words.next().map(|method| Cow::Owned(method.to_owned()));
    said.target = words.next().map(|target| Cow::Owned(target.to_owned()));
    if said.target.is_none() {
        return Err("what was asked for is no request");
    }
    absolute(said);
    let mut rest = rest.trim_start().splitn(3, ' ');
    said.status = rest.next().and_then(|status| status.parse().ok());
    rest.next();
    let mut rest = rest.next().unwrap_or_default();
    for name in [REFERER, USER_AGENT] {
        let Some((value, after)) = rest.trim_start().strip_prefix('"').and_then(quoted) else { break };
        if value != "-" && !value.is_empty() {
            said.headers.push((Header::Named(name), value));
        }
        rest = after;
    }
    Ok(())
}

/// `GET http://host/path`, as a proxy is asked.
fn absolute(said: &mut Said<'_>) {
    let Some(target) = &said.target else { return };
    let Some((scheme, rest)) =
        target.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))
    else {
        return;
    };
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (secure, host) = (scheme == "https", host.to_owned());
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    (said.secure, said.host, said.target) = (secure, Some(Cow::Owned(host)), Some(Cow::Owned(path)));
}

/// Up to the quote that ends it, and what follows. A backslash keeps the next byte from being one.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut escaped = false;
    let mut any = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => (escaped, any) = (true, true),
            b'"' => {
                let value = &text[..at];
                let value = if any { Cow::Owned(value.replace('\\', "")) } else { Cow::Borrowed(value) };
                return Some((value, &text[at + 1..]));
            }
            _ => {}
        }
    }
    None
}
