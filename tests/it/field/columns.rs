//! The kinds of field cases in Parquet, as far as they can occur: texts that hold amounts and dates, padding, null words, counts of
//! milliseconds.

use std::path::Path;
use std::sync::Arc;

use assay_tests::Program;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use sqlx::SqlitePool;

/// A column of a file.
enum Column<'a> {
    Texts(&'a str, Vec<&'a str>),
    Numbers(&'a str, Vec<i64>),
}
use Column::{Numbers, Texts};

/// Writes a file with these columns.
fn write(path: &Path, columns: &[Column<'_>]) {
    let fields: Vec<String> = columns
        .iter()
        .map(|column| match column {
            Texts(name, _) => format!("REQUIRED BYTE_ARRAY {name} (UTF8);"),
            Numbers(name, _) => format!("REQUIRED INT64 {name};"),
        })
        .collect();
    let schema = parse_message_type(&format!("message rows {{ {} }}", fields.join(" "))).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(file, Arc::new(schema), properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for column in columns {
        let mut next = group.next_column().unwrap().unwrap();
        match column {
            Texts(_, values) => {
                let values: Vec<ByteArray> = values.iter().map(|text| ByteArray::from(*text)).collect();
                next.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
            }
            Numbers(_, values) => {
                next.typed::<Int64Type>().write_batch(values, None, None).unwrap();
            }
        }
        next.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

/// A file with these amounts and timestamps, and what came of it: the exit code, what was said, and what is stored.
async fn load(amounts: &[&str], timestamps: Column<'_>, env: &[(&str, &str)]) -> (Option<i32>, String, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let ids: Vec<String> = (1..=amounts.len()).map(|id| format!(" {id} ")).collect();
    let same = |text: &'static str| vec![text; amounts.len()];
    let columns = [
        Texts("id", ids.iter().map(String::as_str).collect()),
        Texts("description", same(" Rent  ")),
        Texts("amount", amounts.to_vec()),
        timestamps,
        Texts("merchant", same("NULL")),
        Texts("operation_type", same("card      ")),
        Texts("side", same("debit")),
    ];
    write(&folder.path().join("a.parquet"), &columns);
    let program = Program::new("assay").args(["run", "a.parquet"]).within(folder.path());
    let ended = env.iter().fold(program, |program, (name, value)| program.env(name, value)).run().await;
    let database = folder.path().join("assay.db");
    let mut stored = Vec::new();
    if database.exists() {
        let pool = SqlitePool::connect(&format!("sqlite://{}", database.display())).await.unwrap();
        let rows = "SELECT external_id || '|' || description || '|' || iif(instr(amount, '.'), rtrim(rtrim(amount, '0'), '.'), amount) || '|' || \"timestamp\" \
                    || '|' || merchant || '|' || operation_type FROM transactions ORDER BY row_number";
        stored = sqlx::query_scalar(rows).fetch_all(&pool).await.unwrap();
        pool.close().await;
    }
    (ended.code, ended.stdout + &ended.stderr, stored)
}

#[tokio::test]
async fn texts_are_read_as_in_csv_except_null_words() {
    let dates = Texts("timestamp", vec!["15.03.2024 10:00 ", " 16.03.2024 11:00", "28.03.2024 12:00"]);
    let (exit, said, stored) = load(&["1.234,56-", " -2,5000000 ", "1.000"], dates, &[]).await;
    assert_eq!(exit, Some(0), "{said}");
    // NULL is a word here, as a column of Parquet has another way to say nothing.
    let expected = [
        "1|Rent|-1234.56|2024-03-15T10:00:00Z|NULL|card",
        "2|Rent|-2.5|2024-03-16T11:00:00Z|NULL|card",
        "3|Rent|1000|2024-03-28T12:00:00Z|NULL|card",
    ];
    assert_eq!(stored, expected);
}

#[tokio::test]
async fn ambiguous_values_are_refused() {
    let dates = || Texts("timestamp", vec!["2024-03-15T10:00:00Z"; 2]);
    let (exit, said, stored) = load(&["-1.500", "-2.250"], dates(), &[]).await;
    assert!(matches!(exit, Some(2 | 4)) && said.contains("DECIMAL_MARK") && stored.is_empty(), "{exit:?} {said}");
    let (exit, said, stored) = load(&["-1.500", "-2.250"], dates(), &[("DECIMAL_MARK", "comma")]).await;
    assert_eq!((exit, stored.len()), (Some(0), 2), "{said}");
    assert!(stored[0].contains("|-1500|"), "{stored:?}");
    let (exit, said, stored) = load(&["1", "2"], Texts("timestamp", vec!["03/04/2024", "05/06/2024"]), &[]).await;
    assert!(exit == Some(4) && said.contains("TIMESTAMP_FORMAT") && stored.is_empty(), "{exit:?} {said}");
}

#[tokio::test]
async fn millisecond_counts_are_not_dates_of_another_year() {
    let millis = Numbers("timestamp", vec![1_710_496_800_123, 1_710_583_200_456]);
    let (exit, said, stored) = load(&["-1.5E1", "2E+2"], millis, &[]).await;
    if exit == Some(0) {
        let expected =
            ["1|Rent|-15|2024-03-15T10:00:00.123Z|NULL|card", "2|Rent|200|2024-03-16T10:00:00.456Z|NULL|card"];
        let as_told: Vec<String> =
            stored.iter().map(|row| row.replace("123000Z", "123Z").replace("456000Z", "456Z")).collect();
        assert_eq!(as_told, expected);
    } else {
        assert!(said.contains("unit") && stored.is_empty(), "{said}");
    }
}
