//! The harness of the end-to-end tests: private databases, broker prefixes, an S3 server and ML APIs.
