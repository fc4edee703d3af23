//! The kinds of objects people write, as written: Gateway API, Kubernetes core and tidegate.io specs.
