//! Workload identity: SPIFFE ids, an authority that signs them, join tokens, and TLS between those who have one.
//!
//! Nothing in here opens a file or a socket, or looks at a clock: time is an argument, what is kept is a map of files
//! that somebody else reads and writes; but for [`dial`], which takes
//! the connections of others through a handshake. The control plane signs and the proxies ask with the same code, and both verify
//! each other with it.

pub mod authority;
pub mod credentials;
mod csr;
pub mod dial;
pub mod material;
pub mod request;
pub mod spiffe;
pub mod tls;
pub mod token;
mod x509;

pub use authority::{Authority, IssueError, Issued, Lifetimes};
pub use credentials::{Credentials, Held};
pub use material::{Material, MaterialError};
pub use spiffe::{SpiffeId, TrustDomain};
pub use token::{Authenticate, JoinTokens, Unauthenticated};
