//! Who may do what, over which connections, and what must not be printed: secrets and the content of rows.

mod addresses;
mod roles;
mod row_content;
mod secrets;
mod terminal;
mod tls;
