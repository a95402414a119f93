//! The contract suite of the database seam, on PostgreSQL and on SQLite, and what only one of them can do.

/// Runs each of the module's functions on a database of its own of each kind.
macro_rules! on_both {
    ($($test:ident,)*) => {
        mod postgres {
            $(#[tokio::test]
            async fn $test() {
                super::$test(&crate::database::Database::postgres().await).await;
            })*
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $test() {
                super::$test(&crate::database::Database::sqlite().await).await;
            })*
        }
    };
}

mod audits;
mod chunks;
mod conflicts;
mod connecting;
mod copies;
mod database;
mod dead_letters;
mod hostile;
mod in_bulk;
mod known;
mod law;
mod leases;
mod leftovers;
mod live;
mod migrating;
mod overviews;
mod pgbouncer;
mod poolers;
mod postgres_only;
mod records;
mod refused_data;
mod removals;
mod removals_beside;
mod removals_law;
mod replays;
mod runs;
mod stops;
mod writing;
