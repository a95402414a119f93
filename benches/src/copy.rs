//! The upper bound of PostgreSQL: COPY of a run's final rows on one connection, into the same tables with the same indexes.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use assay_tests::Database;
use futures_util::TryStreamExt as _;
use sqlx::{Connection as _, PgConnection};

use crate::usage::cpu_of_service;

const TABLES: [&str; 2] = ["transactions", "predictions"];
const FORMATS: [&str; 2] = ["text", "binary"];
/// Bytes read from a file and sent at a time.
const PIECE: usize = 256 * 1024;

/// Times of COPY.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copied {
    pub(crate) format: &'static str,
    pub(crate) took: Duration,
    /// CPU time of PostgreSQL, if known.
    pub(crate) cpu: Option<Duration>,
}

/// Copies the rows of a database into a new one, in COPY's text and binary formats.
pub(crate) async fn copy(from: &Database) -> [Copied; 2] {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut source = connect(from).await;
    // Always read from the first page of a table, in insertion order, even while others scan it.
    sqlx::query("SET synchronize_seqscans = off").execute(&mut source).await.expect("a setting of the session");
    for format in FORMATS {
        for table in TABLES {
            dump(&mut source, table, format, &dumped(folder.path(), table, format)).await;
        }
    }
    let rows = rows(from).await;
    // Otherwise vacuum would run meanwhile.
    from.execute("TRUNCATE transactions, predictions").await;
    let [text, binary] = FORMATS;
    [copy_as(text, folder.path(), rows).await, copy_as(binary, folder.path(), rows).await]
}

async fn copy_as(format: &'static str, folder: &Path, expected: [i64; 2]) -> Copied {
    let to = Database::migrated().await;
    to.execute("CHECKPOINT").await;
    let mut connection = connect(&to).await;
    let (cpu, began) = (cpu_of_service("TEST_POSTGRES_PID"), Instant::now());
    for table in TABLES {
        fill(&mut connection, table, format, &dumped(folder, table, format)).await;
    }
    let took = began.elapsed();
    let cpu = cpu_of_service("TEST_POSTGRES_PID").zip(cpu).map(|(after, before)| after.saturating_sub(before));
    assert_eq!(rows(&to).await, expected, "rows that were copied");
    Copied { format, took, cpu }
}

fn dumped(folder: &Path, table: &str, format: &str) -> PathBuf {
    folder.join(format!("{table}.{format}"))
}

async fn rows(database: &Database) -> [i64; 2] {
    [
        database.count("SELECT count(*) FROM transactions").await,
        database.count("SELECT count(*) FROM predictions").await,
    ]
}

async fn connect(database: &Database) -> PgConnection {
    PgConnection::connect(database.url()).await.expect("PostgreSQL is there")
}

async fn dump(source: &mut PgConnection, table: &str, format: &str, path: &Path) {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).expect("a file in a folder of ours"));
    let statement = format!("COPY {table} TO STDOUT (FORMAT {format})");
    let mut pieces = source.copy_out_raw(&statement).await.expect("it copies");
    while let Some(piece) = pieces.try_next().await.expect("it copies on") {
        file.write_all(&piece).expect("there is room for the rows");
    }
    file.flush().expect("there is room for the rows");
}

async fn fill(connection: &mut PgConnection, table: &str, format: &str, path: &Path) {
    let mut file = std::fs::File::open(path).expect("it was dumped");
    let statement = format!("COPY {table} FROM STDIN (FORMAT {format})");
    let mut copy = connection.copy_in_raw(&statement).await.expect("it copies");
    let mut piece = vec![0; PIECE];
    loop {
        let length = file.read(&mut piece).expect("it can be read");
        if length == 0 {
            break;
        }
        copy.send(&piece[..length]).await.expect("it takes the rows");
    }
    copy.finish().await.expect("it has the rows");
}

/// Lists the indexes of the tables, which COPY maintains for each row.
pub(crate) async fn indexes(database: &Database) -> String {
    let indexes = database
        .texts("SELECT indexdef FROM pg_indexes WHERE tablename IN ('transactions', 'predictions') ORDER BY 1")
        .await;
    let lines: Vec<_> = indexes.iter().map(|index| format!("- `{}`", index.replace("public.", ""))).collect();
    lines.join("\n")
}
