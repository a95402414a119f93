//! How scored chunks become rows, the same for both databases.

pub(crate) mod chunks;
pub(crate) mod known_rows;
pub(crate) mod replay;
pub(crate) mod resolve_ids;
pub(crate) mod same_content;
pub(crate) mod transaction;
pub(crate) mod validate;
