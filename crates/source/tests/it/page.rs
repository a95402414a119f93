//! Tries every pattern that `docs/sources.md` lists for timestamps.

use std::io::Cursor;

use assay_source::{ByteStream, FormatOptions, inspect};
use assay_transaction::{ReadingRules, TimeZone, TimestampFormat};

const PAGE: &str = include_str!("../../../../docs/sources.md");

/// Texts in backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The rows of the timestamp table.
fn table() -> Vec<[&'static str; 4]> {
    let rows = PAGE.lines().skip_while(|line| !line.starts_with("<!-- tested:")).skip(4);
    let cells = rows.take_while(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        <[&str; 4]>::try_from(cells).expect("a row of four cells")
    });
    cells.collect()
}

#[tokio::test]
async fn every_documented_pattern_reads_its_value() {
    let table = table();
    assert!(table.len() >= 20);
    for [value, pattern, stored, without] in table {
        let format: TimestampFormat = pattern.parse().unwrap_or_else(|error| panic!("{pattern}: {error}"));
        let read = format.parse(value, TimeZone::UTC, ReadingRules::Second).map(|at| at.to_string());
        assert_eq!(read.as_deref(), Ok(stored), "{value} by {pattern}");
        let text = format!("id,description,amount,timestamp,operation_type,side\n1,d,1.5,\"{value}\",card,debit\n");
        let mut stream: ByteStream = Box::pin(Cursor::new(text.into_bytes()));
        let found = inspect(&mut stream, &FormatOptions::default()).await;
        match without {
            "recognised" => assert_eq!(found.unwrap().layout.timestamps.to_string(), pattern, "{value}"),
            "refused" => {
                let error = found.unwrap_err().to_string();
                assert!(
                    error.contains("set TIMESTAMP_FORMAT") || error.contains("TIMESTAMP_FORMAT="),
                    "{value}: {error}"
                );
                assert!(error.contains(pattern), "{value}: {error}");
            }
            other => panic!("`{other}` is neither recognised nor refused"),
        }
    }
}

#[test]
fn every_documented_item_is_valid() {
    let items = PAGE.lines().flat_map(quoted).filter(|text| text.starts_with('%') && text.len() == 2);
    let mut count = 0;
    for item in items {
        count += 1;
        let others = ["%d", "%m", "%Y"].into_iter().filter(|other| match item {
            "%e" => *other != "%d",
            "%b" | "%B" => *other != "%m",
            "%y" => *other != "%Y",
            _ => *other != item,
        });
        let date = others.collect::<Vec<_>>().join("/");
        let pattern = match item {
            "%I" | "%p" => format!("{date} %I:%M %p"),
            "%H" | "%M" => format!("{date} %H:%M"),
            "%S" | "%f" => format!("{date} %H:%M:%S.%f"),
            item => format!("{date} {item}"),
        };
        pattern.parse::<TimestampFormat>().unwrap_or_else(|error| panic!("{item}: {error}"));
    }
    assert!(count >= 15, "{count}");
}
