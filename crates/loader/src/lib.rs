//! The loader: S3 objects and files become validated chunks on the broker.
