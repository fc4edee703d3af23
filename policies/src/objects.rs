//! The kinds of objects people write, as written: Gateway API, Kubernetes core and tidegate.io specs.

mod duration;

pub use duration::{GepDuration, InvalidDuration};
