//! Paths that are alike: `/users/{id}/orders` is one for all users, so that a limit per template has as many keys as the
//! application has operations.

use std::sync::Arc;

/// In the order in which they were written: the first that fits counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Templates(Arc<[Template]>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Template {
    text: Arc<str>,
    elements: Box<[Element]>,
    /// Ends with `/**`: whatever follows.
    open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Element {
    Text(Box<str>),
    Any,
}

const MOST: usize = 64;
const MOST_ELEMENTS: usize = 32;

impl Templates {
    /// # Errors
    /// Which is wrong, and what would be right.
    pub(in super::super) fn new(texts: &[String]) -> Result<Self, (usize, String)> {
        if texts.is_empty() || texts.len() > MOST {
            return Err((0, format!("{} templates: write 1 to {MOST}", texts.len())));
        }
        let templates = texts.iter().enumerate().map(|(i, text)| Template::new(text).map_err(|why| (i, why)));
        Ok(Self(templates.collect::<Result<_, _>>()?))
    }

    /// The template that a path is like, as it was written.
    pub(in super::super) fn of(&self, path: &str) -> Option<&str> {
        self.0.iter().find(|template| template.fits(path)).map(|template| &*template.text)
    }
}

impl Template {
    fn new(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix('/').ok_or_else(|| format!("`{text}` does not begin with `/`"))?;
        let (rest, open) = match rest.strip_suffix("**") {
            Some(before) if before.is_empty() || before.ends_with('/') => {
                (before.trim_end_matches('/'), true)
            }
            _ => (rest, false),
        };
        let written = if rest.is_empty() && open { 0 } else { usize::MAX };
        let elements: Vec<_> = rest.split('/').take(written).map(Element::new).collect::<Result<_, _>>()?;
        if elements.len() > MOST_ELEMENTS {
            return Err(format!("{} elements: write at most {MOST_ELEMENTS}", elements.len()));
        }
        Ok(Self { text: text.into(), elements: elements.into(), open })
    }

    fn fits(&self, path: &str) -> bool {
        let mut found = path.strip_prefix('/').unwrap_or(path).split('/');
        let fit = self.elements.iter().all(|element| match (element, found.next()) {
            (_, None) => false,
            (Element::Any, Some(text)) => !text.is_empty(),
            (Element::Text(wanted), Some(text)) => **wanted == *text,
        });
        fit && (self.open || found.next().is_none())
    }
}

impl Element {
    fn new(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        if text == "*" || name.is_some_and(|name| !name.is_empty() && !name.contains(['{', '}'])) {
            return Ok(Self::Any);
        }
        if text.contains(['{', '}', '*']) {
            return Err(format!("`{text}` is no element: write `{{name}}` or `*` for any, `**` at the end"));
        }
        Ok(Self::Text(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn templates(texts: &[&str]) -> Result<Templates, (usize, String)> {
        Templates::new(&texts.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn a_path_is_like_the_first_template_that_fits_element_by_element() {
        let all =
            templates(&["/users/me", "/users/{id}", "/users/{id}/orders", "/files/**", "/", "/*/x"]).unwrap();
        for (path, want) in [
            ("/users/me", Some("/users/me")),
            ("/users/7", Some("/users/{id}")),
            ("/users/7/orders", Some("/users/{id}/orders")),
            ("/users/", None),
            ("/users", None),
            ("/users/7/orders/1", None),
            ("/files", Some("/files/**")),
            ("/files/a/b", Some("/files/**")),
            ("/filesx", None),
            ("/", Some("/")),
            ("/any/x", Some("/*/x")),
            ("*", None),
        ] {
            assert_eq!(all.of(path), want, "{path}");
        }
        assert_eq!(templates(&["/**"]).unwrap().of("/a/b"), Some("/**"));
    }

    #[test]
    fn what_is_no_template_is_told() {
        for (text, want) in [
            ("users", "does not begin with `/`"),
            ("/a/{id", "`{id` is no element"),
            ("/a/{}", "`{}` is no element"),
            ("/a*b", "`a*b` is no element"),
            ("/a/**/b", "`**` is no element"),
        ] {
            let (at, why) = templates(&["/fine", text]).unwrap_err();
            assert!(at == 1 && why.contains(want), "{text}: {why}");
        }
        assert!(templates(&[]).is_err());
        assert!(templates(&[&"/a".repeat(40)]).unwrap_err().1.contains("write at most 32"));
    }
}
