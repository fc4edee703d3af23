//! Host, path, header, query and method matching, and the Gateway API's order of precedence among matches.
