use assay_transaction::DecidedBy;

use super::*;
use crate::ByteStream;

const NAMES: &str = "id;description;amount;timestamp;merchant;operation_type;side";
const ROW: &str = "1;Shop;-1,50;2024-03-15 10:00:00;M;card;debit";

async fn found(text: impl AsRef<[u8]>, options: &FormatOptions) -> Result<CsvHeader, String> {
    let mut stream: ByteStream = Box::pin(Cursor::new(text.as_ref().to_vec()));
    let head = Head::read(&mut stream, options).await.unwrap();
    let encoding = head.encoding.unwrap_or_default();
    find(&head, options, encoding).await.map_err(|error| error.to_string())
}

fn under(delimiter: Delimiter) -> FormatOptions {
    FormatOptions { delimiter: Some(delimiter), ..FormatOptions::default() }
}

fn mapped(toml: &str) -> FormatOptions {
    FormatOptions { mapping: Some(std::sync::Arc::new(toml::from_str(toml).unwrap())), ..FormatOptions::default() }
}

const BANK: &str = r#"
id = { template = "{Date}-{row}" }
description = "Payee"
amount = "Value"
timestamp = "Date"
operation_type = "Kind"
side = { constant = "account" }
"#;

#[tokio::test]
async fn lines_before_the_header_are_skipped() {
    let preambles: [(&str, u64); 12] = [
        ("", 1),
        ("\n\n", 3),
        ("\u{feff}", 1),
        ("\u{feff}\u{feff}", 1),
        ("# exported 2024-03-15\n# account 1234\n", 3),
        ("\"Account:\";\"0000 / Giro\"\n\"From:\";\"01.01.2024\"\n\n", 4),
        ("Report of \"all\" 5\" pipes\nunclosed;\"quote\n", 3),
        ("sep=;\r\n", 2),
        ("\"sep=;\"\n", 2),
        ("Account statement\r\n\r\nIBAN;DE00\r\nBalance;1.234,56;EUR\r\n\r\n", 6),
        ("Report;;;;;;\nAccount;1234;;;;;\n;;;;;;\n", 4),
        ("one\rtwo\r", 3),
    ];
    for (preamble, line) in preambles {
        for rows in ["", "\n", &format!("\n{ROW}\n{ROW}\n")] {
            let text = format!("{preamble}{NAMES}{rows}");
            let header =
                found(&text, &FormatOptions::default()).await.unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert_eq!((header.delimiter, header.columns.names().join(";").as_str()), (Delimiter::Semicolon, NAMES));
            assert_eq!(
                (header.start.line, header.start.offset),
                (line, (text.find("id;").unwrap()) as u64),
                "{text:?}"
            );
            let end = text.find("side").unwrap() + 4 + usize::from(!rows.is_empty());
            assert_eq!(header.end.offset, end as u64);
            assert_eq!(header.decisions.iter().any(|decision| decision.what == DecisionSubject::Header), line > 1);
        }
    }
    let far = format!("{}{NAMES}\n", "x\n".repeat(49));
    assert_eq!(found(&far, &FormatOptions::default()).await.unwrap().start.line, 50);
    let too_far = found(format!("x\n{far}"), &FormatOptions::default()).await.unwrap_err();
    assert!(too_far.contains("the first 50 lines have no required column"), "{too_far}");
}

#[tokio::test]
async fn a_line_may_declare_the_delimiter() {
    for (line, delimiter) in [("sep=;", ';'), ("SEP=^", '^'), ("sep=\t", '\t'), ("sep=\\t", '\t'), ("\"sep=|\"", '|')] {
        let text = format!("{line}\n{}\n", NAMES.replace(';', &delimiter.to_string()));
        let header = found(&text, &FormatOptions::default()).await.unwrap();
        assert_eq!(char::from(header.delimiter.byte()), delimiter, "{line}");
        assert_eq!(header.decisions[0].evidence, "line 1 declares it");
    }
    let error = found(format!("sep=,\n{NAMES}\n"), &FormatOptions::default()).await.unwrap_err();
    assert!(error.contains("DELIMITER=';'"), "{error}");
    let header = found(format!("sep=,\n{NAMES}\n"), &under(Delimiter::Semicolon)).await.unwrap();
    assert_eq!((header.start.line, header.decisions[0].by), (2, DecidedBy::Set));
}

#[tokio::test]
async fn a_preamble_ends_at_the_names_of_the_mapping() {
    let text = "Date;Saldo\nBank;EUR;EUR\n\n Date ;Payee;KIND;Value;Currency\n01.02.2024;Shop;card;-1,50;EUR\n";
    let header = found(text, &mapped(BANK)).await.unwrap();
    assert_eq!((header.start.line, header.columns.count()), (4, 5));
    let error = found("Date;Payee;Kind;Amount\n", &mapped(BANK)).await.unwrap_err();
    assert!(error.contains("names a column that the header lacks: `Value` for `amount`"), "{error}");
    assert!(error.ends_with("(line 1, the closest of 1 lines)"), "{error}");
}

#[tokio::test]
async fn rows_and_other_headers_are_no_preamble() {
    let error = found(format!("id;amount;timestamp\n1;2;3\n{NAMES}\n{ROW}\n"), &FormatOptions::default()).await;
    let error = error.unwrap_err();
    assert!(error.starts_with("line 3 has every required column, but line 1 before it has 3 of 6"), "{error}");
}

#[tokio::test]
async fn an_uncommon_delimiter_is_named() {
    for (between, setting) in [("^", "'^'"), ("~", "'~'"), ("\u{1}", "'\\x01'"), (":", "':'")] {
        let text = format!("{}\n{}\n", NAMES.replace(';', between), ROW.replace(';', between));
        let error = found(&text, &FormatOptions::default()).await.unwrap_err();
        assert!(error.ends_with(&format!("set DELIMITER={setting}")), "{error}");
        let delimiter: Delimiter = setting.trim_matches('\'').parse().unwrap();
        assert_eq!(found(&text, &under(delimiter)).await.unwrap().columns.count(), 7);
    }
    for between in ["||", "::", "|~|", ";;", ",,", "','", "§", "¦", "¬"] {
        let text = format!("{}\n", NAMES.replace(';', between));
        let error = found(&text, &FormatOptions::default()).await.unwrap_err();
        assert!(error.contains("a delimiter (DELIMITER) is one character"), "{between}: {error}");
    }
}

#[tokio::test]
async fn rows_decide_between_two_delimiters_of_a_header() {
    let mapping = mapped(
        "id = \"a\"\ndescription = \"a\"\namount = \"a\"\ntimestamp = \"a\"\noperation_type = \"a\"\nside = \"a\"\n",
    );
    for (rows, expected) in [("1;2\n", Ok(';')), ("1,2\n", Ok(',')), ("1;2,3\n", Err(())), ("", Err(()))] {
        let found = found(format!("a;x,a\n{rows}"), &mapping).await;
        if let Err(error) = &found {
            let expected = "with `,` and with `;` as delimiter: set DELIMITER to the right one";
            assert!(error.ends_with(expected), "{error}");
        }
        assert_eq!(found.map(|header| char::from(header.delimiter.byte())).map_err(|_| ()), expected, "{rows}");
    }
}

#[tokio::test]
async fn a_trailing_delimiter_is_no_column() {
    let with = |names: &str, rows: &[&str]| format!("{names}\n{}\n", rows.join("\n"));
    let (more, surplus, empty) = (format!("{ROW};"), format!("{ROW};what?"), "1;Shop;-1,50;2024-03-15;M;card;");
    let (more, surplus, longer) = (more.as_str(), surplus.as_str(), format!("{NAMES};"));
    let cases: [(&str, &[&str], usize, bool); 9] = [
        (NAMES, &[ROW, ROW], 7, false),
        (NAMES, &[more, more], 7, true),
        (NAMES, &[more, more, surplus, more, more], 7, true),
        (NAMES, &[more, ROW], 7, false),
        (NAMES, &[surplus, surplus, more], 7, false),
        (&longer, &[ROW, ROW], 7, false),
        (&longer, &[more, more], 7, true),
        (&longer, &[surplus, more], 8, false),
        (NAMES, &[empty, empty], 7, false),
    ];
    for (names, rows, columns, is_trailing) in cases {
        let header = found(with(names, rows), &FormatOptions::default()).await.unwrap();
        assert_eq!((header.columns.count(), header.csv.trailing_delimiter), (columns, is_trailing), "{names} {rows:?}");
        let decided = header.decisions.iter().any(|decision| decision.what == DecisionSubject::TrailingDelimiter);
        assert_eq!(decided, is_trailing || names.len() > NAMES.len() && columns == 7, "{rows:?}");
    }
}

#[tokio::test]
async fn names_in_another_encoding_name_it() {
    let text = b"id;description;amount;timestamp;operation_type;side;soci\xe9t\xe9\n";
    let error = found(text, &FormatOptions::default()).await.unwrap_err();
    assert!(error.starts_with("the source is not UTF-8: `\\xe9` on line 1"), "{error}");
    assert!(error.contains("in windows-1252 it is `é`; set ENCODING"), "{error}");
    let options = FormatOptions { encoding: Some(Encoding::WINDOWS_1252), ..FormatOptions::default() };
    assert_eq!(found(text, &options).await.unwrap().columns.names()[6], "société");
    let bank = "Ums\u{e4}tze\n\nDatum;Empf\u{e4}nger;Betrag\n";
    let bank = Encoding::WINDOWS_1252.encode(bank).unwrap();
    let mapping = mapped(
        &BANK
            .replace("Payee", "Empf\u{e4}nger")
            .replace("Value", "Betrag")
            .replace("Kind", "Datum")
            .replace("Date", "Datum"),
    );
    let error = found(&bank, &mapping).await.unwrap_err();
    assert!(error.starts_with("the source is not UTF-8") && error.contains("ENCODING"), "{error}");
    let options = FormatOptions { encoding: Some(Encoding::WINDOWS_1252), ..mapping };
    assert_eq!(found(&bank, &options).await.unwrap().start.line, 3);
}

#[tokio::test]
async fn a_name_that_cannot_be_stored_is_rejected() {
    let names = format!("{NAMES};no\0te\n");
    let error = found(&names, &FormatOptions::default()).await.unwrap_err();
    assert!(error.contains("`no\\u{0}te` of column 8 holds a NUL byte"), "{error}");
}

#[tokio::test]
async fn json_after_something_else_is_rejected() {
    let names = NAMES.split(';').map(|name| format!("\"{name}\":1")).collect::<Vec<_>>().join(",");
    for text in [format!(")]}}',\n{{{names}}}\n"), format!("2024-03-15 {{{names}}}\n")] {
        let error = found(&text, &FormatOptions::default()).await.unwrap_err();
        assert!(error.contains("FORMAT=json-lines"), "{text}: {error}");
    }
}

#[tokio::test]
async fn trailing_delimiters_may_have_blanks_around_them() {
    // Ends of the header and of the rows, and whether the rows then have a trailing delimiter.
    for (header, rows, between, columns, trailing) in [
        ("", "; ", "", 7, true),
        ("; ", " ;\t", "", 7, true),
        (";", "", "", 7, false),
        // A table drawn by a database.
        (" |", " |", "+----+\n", 7, true),
        ("", ";", "Subtotal\n", 7, true),
    ] {
        let delimiter = if header.contains('|') { "|" } else { ";" };
        let (names, row) = (NAMES.replace(';', delimiter), ROW.replace(';', delimiter));
        let text = format!("{names}{header}\n{between}{row}{rows}\n{row}{rows}\n{between}");
        let found = found(&text, &FormatOptions::default()).await.unwrap();
        assert_eq!((found.columns.count(), found.csv.trailing_delimiter), (columns, trailing), "{text}");
    }
}

#[tokio::test]
async fn a_wrong_encoding_setting_is_named() {
    // Any bytes are some text in UTF-16.
    let big_endian = Encoding::UTF_16BE.encode(NAMES).unwrap();
    for text in [NAMES.as_bytes(), &big_endian] {
        for mapping in [FormatOptions::default(), mapped(BANK)] {
            let options = FormatOptions { encoding: Some(Encoding::UTF_16LE), ..mapping };
            let error = found(text, &options).await.unwrap_err();
            assert!(error.contains("as UTF-16LE, the ENCODING that is set"), "{error}");
        }
    }
    // The encoding comes from a mark, not from the setting.
    let marked = Encoding::UTF_16LE.encode("\u{feff}a;b").unwrap();
    let options = FormatOptions { encoding: Some(Encoding::WINDOWS_1252), ..FormatOptions::default() };
    assert!(!found(marked, &options).await.unwrap_err().contains("ENCODING"));
}

#[tokio::test]
async fn a_missing_header_names_the_closest_line() {
    let none = found("1,Shop,-1.00\n2,Shop,-2.00\n", &FormatOptions::default()).await.unwrap_err();
    assert!(none.contains("as delimiter, and the first line looks like `N,AAAA,-N.NN`"), "{none}");
    let error = found("x\nid;amount;timestamp;merchant\n1;2;3;4\n", &FormatOptions::default()).await.unwrap_err();
    assert_eq!(
        error,
        "the header is not usable: missing required columns `description`, `operation_type`, `side`; the header has `id`, \
         `amount`, `timestamp`, `merchant` (line 2, the closest of 3 lines)"
    );
    for empty in ["", "\u{feff}", "\n\r\n \n"] {
        assert_eq!(found(empty, &FormatOptions::default()).await.unwrap_err(), "the source is empty: it has no header");
    }
}
