use regex_syntax::hir::{Class, Hir, HirKind};

/// Shorter text is everywhere.
const MIN_LENGTH: usize = 3;

/// An expression of more alternatives is not worth its literals.
const MAX_ALTERNATIVES: usize = 32;

/// Texts of which each match of an expression holds at least one, letters in lower case and without regard to case.
type Alternatives = Vec<Vec<u8>>;

/// What each match of `pattern` needs: one text out of each of the sets. Never says too much, maybe too little.
pub(super) fn required(pattern: &str) -> Vec<Alternatives> {
    let mut found = Vec::new();
    if let Ok(hir) = regex_syntax::parse(pattern) {
        collect(&hir, &mut found);
    }
    found
}

fn collect(hir: &Hir, found: &mut Vec<Alternatives>) {
    match hir.kind() {
        HirKind::Literal(_) | HirKind::Class(_) => run(std::slice::from_ref(hir), found),
        HirKind::Concat(parts) => run(parts, found),
        HirKind::Capture(capture) => collect(&capture.sub, found),
        HirKind::Repetition(repetition) if repetition.min > 0 => collect(&repetition.sub, found),
        HirKind::Alternation(branches) => found.extend(any_of(branches)),
        HirKind::Empty | HirKind::Look(_) | HirKind::Repetition(_) => {}
    }
}

/// Neighbouring literals are one text.
fn run(parts: &[Hir], found: &mut Vec<Alternatives>) {
    let mut text = Vec::new();
    for part in parts {
        match part.kind() {
            HirKind::Literal(literal) => text.extend(literal.0.to_ascii_lowercase()),
            HirKind::Class(class) if let Some(letter) = letter(class) => text.push(letter),
            _ => {
                keep(std::mem::take(&mut text), found);
                if !matches!(part.kind(), HirKind::Class(_)) {
                    collect(part, found);
                }
            }
        }
    }
    keep(text, found);
}

fn keep(text: Vec<u8>, found: &mut Vec<Alternatives>) {
    if text.len() >= MIN_LENGTH {
        found.push(vec![text]);
    }
}

/// Each branch must need something, for any of them may be the one that matches. Of each, the longest will do.
fn any_of(branches: &[Hir]) -> Option<Alternatives> {
    let mut all = Alternatives::new();
    for branch in branches {
        let mut found = Vec::new();
        collect(branch, &mut found);
        all.extend(found.into_iter().max_by_key(|set| set.iter().map(Vec::len).min())?);
    }
    all.sort();
    all.dedup();
    (all.len() <= MAX_ALTERNATIVES).then_some(all)
}

/// One letter in both cases and nothing else, as `(?i)` makes it. Not `k` and `s`, of which Unicode has a third.
fn letter(class: &Class) -> Option<u8> {
    let Class::Unicode(class) = class else { return None };
    let [upper, lower] = class.ranges() else { return None };
    let one = |range: &regex_syntax::hir::ClassUnicodeRange| {
        (range.start() == range.end()).then_some(range.start())
    };
    let (upper, lower) = (one(upper)?, one(lower)?);
    (upper.is_ascii_uppercase() && upper.to_ascii_lowercase() == lower).then(|| u8::try_from(lower).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pattern: &str) -> Vec<String> {
        let set = |set: Alternatives| {
            let set = set.into_iter().map(|text| String::from_utf8(text).unwrap());
            set.collect::<Vec<_>>().join("|")
        };
        required(pattern).into_iter().map(set).collect()
    }

    #[test]
    fn what_an_expression_needs_is_found_wherever_it_stands() {
        for (pattern, want) in [
            ("^(?:/api/v[0-9]+/users/.*)$", &["/api/v", "/users/"][..]),
            ("/Shop(/cart)+", &["/shop", "/cart"]),
            ("(alpha|beta|gamma-ray)x", &["alpha|beta|gamma-ray"]),
            ("(?i)/Cart/", &["/cart/"]),
            ("(?i)/skin", &[]),
            ("(?i)/admin/k", &["/admin/"]),
            ("(alpha|b)", &[]),
            ("(alpha)?", &[]),
            ("(alpha)*/ab", &["/ab"]),
            (".*", &[]),
            ("ab", &[]),
            ("[a-z]+", &[]),
        ] {
            assert_eq!(texts(pattern), want, "{pattern}");
        }
    }
}
