//! Encoding of valid rows and of chunks: `cargo bench -p assay-transaction`.

use std::hint::black_box;

use assay_transaction::{
    CheckedRow, Checkpoint, Chunk, ChunkId, Chunker, Columns, DecimalMark, Delimiter, Dialect, EncodedTransaction,
    Encoding, Entry, IdScheme, Position, RowRange, Rules, RunSettings, ValidRow,
};
use divan::Bencher;
use divan::counter::ItemsCount;

const DIALECT: Dialect =
    Dialect { delimiter: Delimiter::Semicolon, decimal_mark: DecimalMark::Comma, encoding: Encoding::UTF_8 };
const HEADER: &str = "id;description;amount;timestamp;merchant;operation_type;side;country;channel";
/// The default of `API_BATCH_SIZE`.
const ROWS: u64 = 100;

fn main() {
    divan::main();
}

fn rules() -> (Rules, RunSettings) {
    let settings = RunSettings { dialect: DIALECT, ..RunSettings::example() };
    let columns = Columns::from_names(HEADER.split(';').map(str::to_owned).collect(), None).expect("a header");
    (Rules::new(columns, &settings), settings)
}

fn text(number: u64) -> String {
    let (units, cents) = (number % 1000, number % 100);
    format!(
        "{number};Card expense at Boulangerie du Marché;-{units},{cents:02};2023-11-28 06:35:12;EDF;refund;debit;FR;web"
    )
}

/// The valid rows of a chunk.
fn valid() -> Vec<ValidRow> {
    let (rules, _) = rules();
    let row = |number: u64| {
        let text = text(number);
        let fields: Vec<&[u8]> = text.split(';').map(str::as_bytes).collect();
        rules.check(number, &fields[..], text.len()).expect("a valid row")
    };
    (1..=ROWS).map(row).collect()
}

/// Checking rows and writing them into a chunk, as the loader does.
#[divan::bench]
fn rows_into_a_chunk(bencher: Bencher<'_, '_>) {
    let (rules, settings) = rules();
    let texts: Vec<String> = (1..=ROWS).map(text).collect();
    let rows: Vec<Vec<&[u8]>> = texts.iter().map(|text| text.split(';').map(str::as_bytes).collect()).collect();
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        let mut chunker = Chunker::new("run".parse().expect("a name"), &settings, Checkpoint::START);
        for (number, fields) in (1..).zip(&rows) {
            let checked = rules.check_fields(number, 1, &fields[..], 100).expect("a valid row");
            let row =
                CheckedRow { row: Ok(checked), amount: None, other_reading: false, bytes: 100, end: Position::START };
            black_box(chunker.push(row).expect("it is encoded"));
        }
        chunker.finish(Position::START).expect("it is encoded")
    });
}

fn chunk() -> Chunk {
    let entries = (1..).zip(valid()).map(|(row, valid)| Entry::new(row, &valid).expect("it is encoded"));
    Chunk {
        id: ChunkId { run_id: "batch_20260111_100000_ab12".parse().expect("a name"), chunk: 0 },
        range: RowRange { first_row: 1, rows: ROWS },
        ids: IdScheme::V8,
        transactions: entries.collect(),
        rejected: Vec::new(),
        known: Vec::new(),
    }
}

/// Encoding each transaction for the ML API.
#[divan::bench]
fn transactions(bencher: Bencher<'_, '_>) {
    let rows = valid();
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        for row in &rows {
            black_box(EncodedTransaction::new(&black_box(row).transaction).expect("it is encoded"));
        }
    });
}

/// Encoding the message of a chunk with encoded transactions.
#[divan::bench]
fn message(bencher: Bencher<'_, '_>) {
    let chunk = chunk();
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| black_box(&chunk).encode().expect("it is encoded"));
}

/// Decoding it, as the predictor does.
#[divan::bench]
fn read_message(bencher: Bencher<'_, '_>) {
    let message = chunk().encode().expect("it is encoded");
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| Chunk::decode(black_box(&message)).expect("it is readable"));
}
