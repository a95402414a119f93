//! Speed of reading rows, next to the bare libraries: `cargo bench -p assay-source`.

use std::hint::black_box;
use std::io::Cursor;

use assay_source::{CsvLayout, CsvReader};
use assay_transaction::{CsvSyntax, Delimiter, Encoding, FieldAccess as _, Position, ReadingRules};
use bytes::Bytes;
use divan::Bencher;
use divan::counter::BytesCount;

fn main() {
    divan::main();
}

/// About 30 MB of bank rows.
fn rows() -> Bytes {
    let row = |number: u32| {
        format!(
            "{number};\"Card expense at Boulangerie du Marché\";-{},{:02};\"2023-11-28 06:35:12\";\"EDF\";\"refund\";\"debit\"\n",
            number % 1000,
            number % 100
        )
    };
    (0..300_000).map(row).collect::<String>().into()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

/// Our reader: raw bytes, lines, offsets and fields, batch by batch.
fn read(bencher: Bencher<'_, '_>, batch_rows: usize, rules: ReadingRules) {
    let (text, runtime) = (rows(), runtime());
    let csv = CsvSyntax::default();
    let layout =
        CsvLayout { delimiter: Delimiter::Semicolon, columns: Some(7), csv: &csv, encoding: Encoding::UTF_8, rules };
    bencher.counter(BytesCount::new(text.len())).bench_local(|| {
        runtime.block_on(async {
            let mut reader = CsvReader::new(Box::pin(Cursor::new(text.clone())), &layout, Position::START);
            let mut fields = 0;
            while let Some(batch) = reader.next_batch(batch_rows).await.expect("rows") {
                fields += batch.rows().map(|row| black_box(row.fields).count()).sum::<usize>();
            }
            fields
        })
    });
}

/// V2.
#[divan::bench(args = [100, 5000])]
fn row_reader(bencher: Bencher<'_, '_>, batch_rows: usize) {
    read(bencher, batch_rows, ReadingRules::Second);
}

/// V1.
#[divan::bench(args = [100, 5000])]
fn row_reader_first(bencher: Bencher<'_, '_>, batch_rows: usize) {
    read(bencher, batch_rows, ReadingRules::First);
}

/// `csv-async` alone: only fields.
#[divan::bench]
fn csv_async_alone(bencher: Bencher<'_, '_>) {
    let (text, runtime) = (rows(), runtime());
    bencher.counter(BytesCount::new(text.len())).bench_local(|| {
        runtime.block_on(async {
            let mut reader = csv_async::AsyncReaderBuilder::new()
                .delimiter(b';')
                .has_headers(false)
                .buffer_capacity(64 * 1024)
                .create_reader(Cursor::new(text.clone()));
            let (mut record, mut fields) = (csv_async::ByteRecord::new(), 0);
            while reader.read_byte_record(&mut record).await.expect("rows") {
                fields += black_box(&record).len();
            }
            fields
        })
    });
}

/// `csv` alone: the same state machine without `async`.
#[divan::bench]
fn csv_alone(bencher: Bencher<'_, '_>) {
    let text = rows();
    bencher.counter(BytesCount::new(text.len())).bench_local(|| {
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(b';')
            .has_headers(false)
            .buffer_capacity(64 * 1024)
            .from_reader(Cursor::new(text.clone()));
        let (mut record, mut fields) = (csv::ByteRecord::new(), 0);
        while reader.read_byte_record(&mut record).expect("rows") {
            fields += black_box(&record).len();
        }
        fields
    });
}
