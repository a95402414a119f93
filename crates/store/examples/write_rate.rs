//! How many rows a second the database takes, and how long counting their outcomes takes.
//!
//! `DATABASE_URL=… cargo run --release -p assay-store --example write_rate -- --rows 200000 --batch 1000 --writers 1`
//!
//! Creates missing tables, and stores new transactions in a new run each time: use a disposable database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use assay_store::{DatabaseOptions, IdConflict, NewRun, Store};
use assay_transaction::{
    ChunkId, EncodedTransaction, Entry, IdScheme, Lane, Predicted, Prediction, RowRange, RunId, RunSettings,
    ScoredChunk, SourceIdentity, TimeZone, Timestamp, Transaction,
};
use clap::Parser as _;
use uuid::Uuid;

const STARTUP: Duration = Duration::from_secs(30);
/// Rows of a chunk, as `API_BATCH_SIZE` sets them.
const CHUNK: u64 = 100;

#[derive(clap::Parser)]
struct Arguments {
    #[command(flatten)]
    database: DatabaseOptions,
    /// Rows that each writer stores
    #[arg(long, default_value_t = 200_000)]
    rows: u64,
    /// Rows of one transaction
    #[arg(long, default_value_t = 1_000)]
    batch: u64,
    /// Writers at the same time
    #[arg(long, default_value_t = 1)]
    writers: u64,
}

fn row(run: Uuid, row: u64) -> Result<Predicted, Box<dyn std::error::Error + Send + Sync>> {
    let transaction = Transaction {
        id: Uuid::new_v5(&run, &row.to_be_bytes()),
        description: format!("Card payment {row} at the market"),
        amount: format!("-{}.{:02}", row % 5_000, row % 100).parse()?,
        timestamp: Timestamp::parse(b"2023-11-28T06:35:12Z", TimeZone::UTC)?,
        merchant: Some("Carrefour".to_owned()),
        operation_type: "card_payment".to_owned(),
        side: "debit".to_owned(),
        attributes: std::collections::BTreeMap::new(),
    };
    let entry = Entry { row, external_id: Some(row.to_string()), transaction: EncodedTransaction::new(&transaction)? };
    let prediction = Prediction {
        prediction: "legitimate".into(),
        fraud_score: Some(0.0125),
        model_version: Some("demo-1".into()),
        ..Prediction::default()
    };
    Ok(Predicted { entry, prediction })
}

fn chunks(run: Uuid, rows: u64) -> Result<Vec<ScoredChunk>, Box<dyn std::error::Error + Send + Sync>> {
    let chunk = |number: u64| {
        let first_row = number * CHUNK + 1;
        let predicted = (first_row..first_row + CHUNK).map(|number| row(run, number)).collect::<Result<_, _>>()?;
        Ok(ScoredChunk {
            id: ChunkId { run_id: run.simple().to_string().parse()?, chunk: number },
            range: RowRange { first_row, rows: CHUNK },
            ids: IdScheme::V8,
            lane: Lane::Batch,
            predicted_at: Timestamp::parse(b"2026-01-11T10:00:00Z", TimeZone::UTC)?,
            predicted,
            failed: Vec::new(),
            rejected: Vec::new(),
            known: Vec::new(),
        })
    };
    (0..rows / CHUNK).map(chunk).collect()
}

fn new_run(run_id: RunId) -> NewRun {
    let source = SourceIdentity { location: run_id.to_string(), version: "1".to_owned() };
    let settings = RunSettings::example();
    let (owner, lease) = ("example".to_owned(), STARTUP);
    NewRun {
        run_id,
        explicit_id: true,
        source,
        settings,
        force: false,
        source_bytes: None,
        fingerprint: None,
        owner,
        lease,
    }
}

async fn write_all(store: &dyn Store, chunks: &[ScoredChunk], batch: u64) -> Result<(), assay_store::StoreError> {
    for batch in chunks.chunks(usize::try_from(batch / CHUNK).unwrap_or(1).max(1)) {
        store.write(batch, IdConflict::Fail).await?;
    }
    Ok(())
}

#[tokio::main]
#[expect(clippy::print_stdout, clippy::cast_precision_loss, reason = "a person reads the rate")]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let Arguments { database, rows, batch, writers } = Arguments::parse();
    assay_store::migrate(&database, STARTUP).await?;
    let store = assay_store::connect(&database, "write-rate", STARTUP).await?;
    let runs: Vec<_> = (0..writers).map(|_| chunks(Uuid::new_v4(), rows).map(Arc::new)).collect::<Result<_, _>>()?;
    let run_id = runs[0][0].id.run_id.clone();
    store.begin_run(&new_run(run_id.clone())).await?;
    for what in ["new", "again"] {
        let began = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for chunks in runs.clone() {
            let store = Arc::clone(&store);
            tasks.spawn(async move { write_all(&*store, &chunks, batch).await });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        let seconds = began.elapsed().as_secs_f64();
        println!("{what}: {:.0} rows/s ({writers} writers, {batch} rows each time)", (rows * writers) as f64 / seconds);
    }
    let began = Instant::now();
    let tally = store.tally(&run_id).await?;
    println!("tally of {} rows: {:?}", tally.total(), began.elapsed());
    let began = Instant::now();
    let audit = store.audit(&run_id).await?.ok_or("the run is not in the ledger")?;
    println!("audit of {} rows in {} chunks: {:?}", audit.tally.total(), audit.chunks_recorded, began.elapsed());
    for row in [1, rows / 2, rows] {
        let began = Instant::now();
        let fate = store.row(&run_id, row).await?;
        let is_there = !matches!(fate, assay_store::RowOutcome::Unrecorded);
        println!("row {row}, there: {is_there}: {:?}", began.elapsed());
    }
    store.close().await;
    Ok(())
}
