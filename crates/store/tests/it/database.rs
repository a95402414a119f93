//! A database for one test, dropped with it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use assay_connect::ExposeSecret as _;
use assay_store::{DatabaseEndpoint, DatabaseOptions, IdConflict, Store, StoreError, WriteReport};
use assay_testkit::{on_drop, service_url};
use assay_transaction::{RunSettings, ScoredChunk};
use sqlx::postgres::PgPool;
use sqlx::sqlite::SqlitePool;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use url::Url;

pub(crate) const STARTUP: Duration = Duration::from_secs(30);

/// A database with the tables of Assay, and a store on it.
pub(crate) struct Database {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) options: DatabaseOptions,
    pub(crate) raw: DirectAccess,
    _storage: Storage,
}

/// Direct access, past the store.
pub(crate) enum DirectAccess {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

/// Removed at the end.
pub(crate) enum Storage {
    Server { name: String },
    Directory { _directory: tempfile::TempDir },
}

impl Database {
    pub(crate) async fn postgres() -> Self {
        let (options, storage) = empty_postgres().await;
        let raw = DirectAccess::Postgres(PgPool::connect_lazy(address(&options)).unwrap());
        Self::migrated(options, raw, storage).await
    }

    pub(crate) async fn sqlite() -> Self {
        let (options, storage) = empty_sqlite();
        let raw = DirectAccess::Sqlite(SqlitePool::connect_lazy(address(&options)).unwrap());
        Self::migrated(options, raw, storage).await
    }

    async fn migrated(options: DatabaseOptions, raw: DirectAccess, storage: Storage) -> Self {
        assay_store::migrate(&options, STARTUP).await.unwrap();
        let store = assay_store::connect(&options, "test", STARTUP).await.unwrap();
        Self { store, options, raw, _storage: storage }
    }

    /// A second store on the same database.
    pub(crate) async fn another(&self) -> Arc<dyn Store> {
        assay_store::connect(&self.options, "other", STARTUP).await.unwrap()
    }

    /// Writes chunks; their runs begin if they have not.
    pub(crate) async fn write(
        &self,
        chunks: &[ScoredChunk],
        on_conflict: IdConflict,
    ) -> Result<WriteReport, StoreError> {
        self.begin(chunks.iter().map(|chunk| chunk.id.run_id.as_str())).await;
        self.store.write(chunks, on_conflict).await
    }

    /// Adds missing runs to the ledger.
    pub(crate) async fn begin(&self, runs: impl Iterator<Item = &str>) {
        let settings = serde_json::to_string(&RunSettings { ids: self.store.ids(), ..RunSettings::example() }).unwrap();
        for run in runs.collect::<BTreeSet<_>>() {
            self.execute(&format!(
                "INSERT INTO runs (run_id, source_location, source_version, settings)
                VALUES ('{run}', '{run}.csv', 'etag', '{settings}') ON CONFLICT DO NOTHING"
            ))
            .await;
        }
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self.raw, DirectAccess::Sqlite(_))
    }

    /// The number that a query returns.
    pub(crate) async fn count(&self, query: &str) -> i64 {
        let query = AssertSqlSafe(query);
        match &self.raw {
            DirectAccess::Postgres(pool) => sqlx::query_scalar(query).fetch_one(pool).await.unwrap(),
            DirectAccess::Sqlite(pool) => sqlx::query_scalar(query).fetch_one(pool).await.unwrap(),
        }
    }

    /// The texts that a query returns.
    pub(crate) async fn texts(&self, query: &str) -> Vec<String> {
        let query = AssertSqlSafe(query);
        match &self.raw {
            DirectAccess::Postgres(pool) => sqlx::query_scalar(query).fetch_all(pool).await.unwrap(),
            DirectAccess::Sqlite(pool) => sqlx::query_scalar(query).fetch_all(pool).await.unwrap(),
        }
    }

    pub(crate) async fn bytes(&self, query: &str) -> Vec<Vec<u8>> {
        let query = AssertSqlSafe(query);
        match &self.raw {
            DirectAccess::Postgres(pool) => sqlx::query_scalar(query).fetch_all(pool).await.unwrap(),
            DirectAccess::Sqlite(pool) => sqlx::query_scalar(query).fetch_all(pool).await.unwrap(),
        }
    }

    pub(crate) async fn execute(&self, statement: &str) {
        self.try_execute(statement).await.unwrap();
    }

    /// The same for a statement that the database may refuse.
    pub(crate) async fn try_execute(&self, statement: &str) -> Result<(), String> {
        let statement = AssertSqlSafe(statement);
        match &self.raw {
            DirectAccess::Postgres(pool) => sqlx::raw_sql(statement).execute(pool).await.map(drop),
            DirectAccess::Sqlite(pool) => sqlx::raw_sql(statement).execute(pool).await.map(drop),
        }
        .map_err(|error| error.to_string())
    }
}

/// A database of PostgreSQL without tables.
pub(crate) async fn empty_postgres() -> (DatabaseOptions, Storage) {
    let name = unique_name();
    let mut connection = PgConnection::connect(server().as_str()).await.expect("TEST_DATABASE_URL can be reached");
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.unwrap();
    (options(&postgres_url(&name)), Storage::Server { name })
}

/// The address of a missing SQLite file.
pub(crate) fn empty_sqlite() -> (DatabaseOptions, Storage) {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", directory.path().join("assay.db").display());
    (options(&url), Storage::Directory { _directory: directory })
}

/// The address in these options.
pub(crate) fn address(options: &DatabaseOptions) -> &str {
    options.endpoint.url.as_ref().unwrap().expose_secret()
}

pub(crate) fn options(url: &str) -> DatabaseOptions {
    DatabaseOptions { endpoint: DatabaseEndpoint::at(url), ..DatabaseOptions::default() }
}

pub(crate) fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("assay_store_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The server that the tests use.
pub(crate) fn server() -> Url {
    Url::parse(&service_url("TEST_DATABASE_URL")).expect("TEST_DATABASE_URL is a URL")
}

pub(crate) fn postgres_url(name: &str) -> String {
    let mut url = server();
    url.set_path(name);
    url.into()
}

impl Drop for Storage {
    fn drop(&mut self) {
        let Self::Server { name } = self else { return };
        let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        on_drop(async move {
            if let Ok(mut connection) = PgConnection::connect(server().as_str()).await {
                let _ = sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await;
            }
        });
    }
}
