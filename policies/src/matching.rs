//! Host, path, header, query and method matching, and the Gateway API's order of precedence among matches.
//!
//! A [`HostMap`] finds the most specific host pattern, a [`MatchTable`] the best of the matches below it. Neither
//! knows what a rule leads to, and neither changes a request.
//!
//! What a lookup costs depends on the request (labels of its host, elements of its path, its headers) and on how many
//! matches it nearly meets, not on how many there are: hosts are hashed, paths are a tree of elements, and matches that
//! share a path are told apart by one hash per header, parameter or method that they name. Regular expressions are
//! tried only where text that they require is there. Linear are only expressions that require no text of at least
//! three bytes (`[a-z]+`), or whose text all requests have, and they are tried after everything cheaper.

mod authority;
mod conditions;
mod hosts;
mod order;
mod part;
mod paths;
mod patterns;
mod query;
mod shadow;
mod table;
pub mod target;
#[cfg(test)]
mod tests;
mod view;
mod work;

pub use authority::{Authority, authority};
pub use hosts::HostMap;
pub use order::{Candidate, Precedence, RuleOrder, compare, decided};
pub use query::query_value;
pub(crate) use shadow::{disjoint, shadowed};
pub use table::MatchTable;
pub(crate) use view::query_pairs;
pub use view::{RequestView, path_matches};
pub use work::Work;
