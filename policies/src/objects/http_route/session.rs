//! `sessionPersistence` of a rule (GEP-1619, `SessionPersistence`), in its newest shape and in the one before.

use http::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;

use super::GepDuration;
use crate::model::{SessionCarrier, SessionPersistence};
use crate::objects::Faults;
use crate::pick::{is_cookie_name, is_cookie_path};

/// Fields that the proxies themselves live by: a session in them would break the request.
const TAKEN: [&str; 9] = [
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "set-cookie",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Once answered, a client goes back to the same endpoint, whatever the weights say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionPersistenceSpec {
    #[serde(rename = "type")]
    pub kind: SessionType,
    /// How long a session lasts at most.
    pub absolute_timeout: Option<GepDuration>,
    /// How long a session lasts without a request.
    pub idle_timeout: Option<GepDuration>,
    pub cookie: Option<SessionCookieSpec>,
    pub header: Option<SessionHeaderSpec>,
    /// Until v1.5 of the Gateway API: `cookie.name` or `header.name`.
    #[schemars(length(min = 1, max = 128))]
    pub session_name: Option<String>,
    /// Until v1.5 of the Gateway API: `cookie`.
    pub cookie_config: Option<CookieConfigSpec>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum SessionType {
    #[default]
    Cookie,
    Header,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionCookieSpec {
    /// Absent: a name of the rule's own.
    #[schemars(length(min = 1, max = 128))]
    pub name: Option<String>,
    /// Absent: `/`.
    #[schemars(length(max = 1024))]
    pub path: Option<String>,
    pub lifetime_type: CookieLifetime,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CookieConfigSpec {
    pub lifetime_type: CookieLifetime,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum CookieLifetime {
    /// Until the browser is closed.
    #[default]
    Session,
    /// For as long as `absoluteTimeout`, which is needed then.
    Permanent,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct SessionHeaderSpec {
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
}

impl SessionPersistenceSpec {
    pub(super) fn check(&self, at: &str, faults: &mut Faults) {
        let at = format!("{at}/sessionPersistence");
        self.check_shape(&at, faults);
        match (self.kind, self.name()) {
            (SessionType::Cookie, Some((field, name))) if !is_cookie_name(name) => {
                faults.error(format!("{at}/{field}"), format!("`{name}` is not the name of a cookie"));
            }
            (SessionType::Header, Some((field, name))) => match name.parse::<HeaderName>() {
                Err(_) => faults.error(format!("{at}/{field}"), format!("`{name}` is not a header name")),
                Ok(name) if TAKEN.contains(&name.as_str()) => {
                    faults.error(
                        format!("{at}/{field}"),
                        format!("`{name}` has a meaning of its own: take another name"),
                    );
                }
                Ok(_) => {}
            },
            (SessionType::Header, None) => {
                faults.error(&at, "type Header needs a `header` with the `name` of it");
            }
            (SessionType::Cookie, _) => {}
        }
        if let Some(path) = self.cookie.as_ref().and_then(|cookie| cookie.path.as_ref())
            && !is_cookie_path(path)
        {
            let message = format!("`{path}` is not the path of a cookie: it begins with `/`");
            faults.error(format!("{at}/cookie/path"), message);
        }
        self.check_times(&at, faults);
    }

    fn check_shape(&self, at: &str, faults: &mut Faults) {
        let cookie = [("cookie", self.cookie.is_some()), ("cookieConfig", self.cookie_config.is_some())];
        let header = [("header", self.header.is_some())];
        let (stranger, of) = match self.kind {
            SessionType::Cookie => (&header[..], "Cookie"),
            SessionType::Header => (&cookie[..], "Header"),
        };
        for (field, _) in stranger.iter().filter(|(_, written)| *written) {
            faults.error(format!("{at}/{field}"), format!("does not belong in a session of type {of}"));
        }
        if self.cookie.is_some() && self.cookie_config.is_some() {
            faults.error(format!("{at}/cookieConfig"), "is the old name of `cookie`: write one of them");
        }
        let named = self.cookie.as_ref().is_some_and(|cookie| cookie.name.is_some()) || self.header.is_some();
        if self.session_name.is_some() && named {
            faults.error(format!("{at}/sessionName"), "is the old place of the name: write one of them");
        }
    }

    fn check_times(&self, at: &str, faults: &mut Faults) {
        let second = std::time::Duration::from_secs(1);
        for (field, time) in [("absoluteTimeout", self.absolute_timeout), ("idleTimeout", self.idle_timeout)]
        {
            if let Some(time) = time.filter(|time| time.get() < second) {
                faults.error(
                    format!("{at}/{field}"),
                    format!("{time} is too short: sessions are timed in seconds"),
                );
            }
        }
        if self.is_permanent() && self.absolute_timeout.is_none() {
            let field = if self.cookie_config.is_some() { "cookieConfig" } else { "cookie" };
            faults.error_with_help(
                format!("{at}/{field}/lifetimeType"),
                "a Permanent cookie needs an `absoluteTimeout`, which is how long it lasts",
                "write one, or make it a Session cookie",
            );
        }
        if let (Some(idle), Some(absolute)) = (self.idle_timeout, self.absolute_timeout)
            && idle > absolute
        {
            faults.warn(
                format!("{at}/idleTimeout"),
                format!("is never reached: after {absolute} the session is over"),
            );
        }
    }

    /// The name that is written, and the field in which it is.
    pub(super) fn name(&self) -> Option<(&'static str, &str)> {
        let cookie = self.cookie.as_ref().and_then(|cookie| cookie.name.as_deref());
        let cookie = cookie.map(|name| ("cookie/name", name));
        let header = self.header.as_ref().map(|header| ("header/name", &*header.name));
        cookie.or(header).or(self.session_name.as_deref().map(|name| ("sessionName", name)))
    }

    fn is_permanent(&self) -> bool {
        let new = self.cookie.as_ref().map(|cookie| cookie.lifetime_type);
        new.or(self.cookie_config.map(|cookie| cookie.lifetime_type)) == Some(CookieLifetime::Permanent)
    }

    /// # Errors
    /// What the check refuses.
    pub(crate) fn compile(&self) -> Result<SessionPersistence, String> {
        let name = self.name().map(|(_, name)| name);
        let carrier = match self.kind {
            SessionType::Cookie => SessionCarrier::Cookie {
                name: name.map(Into::into),
                path: self.cookie.as_ref().and_then(|cookie| cookie.path.as_deref()).unwrap_or("/").into(),
                permanent: self.is_permanent(),
            },
            SessionType::Header => {
                let name = name.ok_or_else(|| String::from("a session of type Header without a name"))?;
                let header = name.parse().map_err(|_| format!("`{name}` is not a header name"))?;
                SessionCarrier::Header(header)
            }
        };
        let (absolute, idle) = (self.absolute_timeout, self.idle_timeout);
        Ok(SessionPersistence {
            carrier,
            absolute_timeout: absolute.map(Into::into),
            idle_timeout: idle.map(Into::into),
        })
    }
}
