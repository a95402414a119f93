//! End-to-end tests on real services.
