//! No code: every crate of the workspace depends on this one, whose manifest names the features that the workspace as a whole gives its
//! dependencies. So `cargo run -p assay`, `cargo test`, the benches and the scripts all compile them the same way, and once.
//!
//! `cargo hakari generate` writes the manifest; `scripts/check-features` says when it is out of date.
