//! Host, path, header, query and method matching, and the Gateway API's order of precedence among matches.
//!
//! A [`HostMap`] finds the most specific host pattern, a [`MatchTable`] the best of the matches below it. Neither
//! knows what a rule leads to, and neither changes a request.

mod authority;
mod hosts;
mod order;
mod table;
#[cfg(test)]
mod tests;
mod view;

pub use authority::{Authority, authority};
pub use hosts::HostMap;
pub use order::{Candidate, RuleOrder, compare};
pub use table::MatchTable;
pub use view::{RequestView, path_matches};
