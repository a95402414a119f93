//! The transactions of a file, in the words in which PostgreSQL returns those that it stored.

/// Each stored transaction, in row order, as one text: to compare with [`content`].
pub const STORED: &str = "
    SELECT concat_ws('|', row_number, external_id, description, amount,
        to_char(\"timestamp\" AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), coalesce(merchant, ''), operation_type, side)
    FROM transactions ORDER BY run_id, row_number";

/// Each row of a file of valid transactions, with their columns in the usual order, as one text: what is to be stored. It
/// is read by another CSV reader than Assay's.
pub fn content(file: &[u8], delimiter: u8, decimal_mark: char) -> Vec<String> {
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(file);
    let rows = reader.records().map(|row| row.expect("the file is CSV"));
    let text = |(index, row): (usize, csv::StringRecord)| {
        let amount = four_decimals(&row[2], decimal_mark);
        let [id, description, timestamp] = [&row[0], &row[1], &row[3]];
        let [merchant, operation_type, side] = [&row[4], &row[5], &row[6]];
        format!("{}|{id}|{description}|{amount}|{timestamp}|{merchant}|{operation_type}|{side}", index + 1)
    };
    rows.enumerate().map(text).collect()
}

/// Demands that two lists of texts are the same, and shows the first that differ: whole lists would fill screens.
#[track_caller]
pub fn assert_same(found: &[String], expected: &[String]) {
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found, expected, "text {index} of {}", expected.len());
    }
    assert_eq!(found.len(), expected.len(), "number of texts, of which all that both have are the same");
}

/// As `NUMERIC(20,4)` is written.
pub(crate) fn four_decimals(amount: &str, decimal_mark: char) -> String {
    let (units, decimals) = amount.split_once(decimal_mark).unwrap_or((amount, ""));
    format!("{units}.{decimals:0<4}")
}
