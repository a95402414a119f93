//! From the settings to a database with its tables.

mod connecting;
mod identities;
mod migrating;
