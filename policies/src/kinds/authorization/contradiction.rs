//! What can never match, found when it is written.

use crate::kind::CompileContext;

/// A list and the list of the same name under `not`.
pub(super) fn excluded<T: PartialEq>(
    cx: &mut CompileContext<'_>,
    at: &str,
    field: &str,
    (fits, not): (&[T], &[T]),
) {
    if !fits.is_empty() && fits.iter().all(|one| not.contains(one)) {
        let message = format!("it can never match: all of `{field}` is in `not` as well");
        cx.error(format!("{at}/{field}"), message);
    }
}
