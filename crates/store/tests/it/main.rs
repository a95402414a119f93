//! The contract suite of the database seam, on PostgreSQL and on SQLite, and what only one of them does.

/// Runs each function of a module on a database of its own of each kind.
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

mod chunks;
mod connect;
mod database;
mod law;
mod ledger;
mod operations;
mod postgres;
mod write;
