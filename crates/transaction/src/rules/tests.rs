//! Every rule, its reason, and its message.

use super::*;
use crate::{AmountSyntax, DecidedBy, DecimalMark, Decision, DecisionSubject, Delimiter, Dialect, Encoding};

const HEADER: &str = "id|description|amount|timestamp|merchant|operation_type|side|country";
const GOOD: &str = "1|Card expense|-952,40|2023-11-28 06:35:12|EDF|refund|debit|FR";

fn rules() -> Rules {
    let settings = RunSettings {
        dialect: Dialect { delimiter: Delimiter::Pipe, decimal_mark: DecimalMark::Comma, encoding: Encoding::UTF_8 },
        ..RunSettings::example()
    };
    let columns = Columns::from_names(HEADER.split('|').map(str::to_owned).collect(), None).unwrap();
    Rules::new(columns, &settings)
}

fn check(row: &[u8]) -> Result<ValidRow, Rejection> {
    let fields: Vec<&[u8]> = row.split(|byte| *byte == b'|').collect();
    rules().check(1, &fields[..], row.len())
}

#[test]
fn a_good_row_becomes_a_transaction() {
    let ValidRow { transaction, external_id, .. } = check(GOOD.as_bytes()).unwrap();
    assert_eq!(external_id.as_deref(), Some("1"));
    assert_eq!(transaction.amount.to_string(), "-952.40");
    assert_eq!(transaction.timestamp.to_string(), "2023-11-28T06:35:12Z");
    assert_eq!(transaction.merchant.as_deref(), Some("EDF"));
    assert_eq!(transaction.attributes["country"], "FR");
}

#[test]
fn a_merchant_may_be_absent() {
    let row = GOOD.replace("EDF", " ");
    assert_eq!(check(row.as_bytes()).unwrap().transaction.merchant, None);
}

#[test]
fn every_rule_has_its_reason() {
    let cases: &[(&str, &str, RejectReason)] = &[
        ("1|Card", " |Card", RejectReason::IdEmpty),
        ("Card expense", "", RejectReason::DescriptionEmpty),
        ("-952,40", "", RejectReason::AmountEmpty),
        ("-952,40", "952.40", RejectReason::AmountFormat),
        ("-952,40", "NaN", RejectReason::AmountNotFinite),
        ("-952,40", "1,00001", RejectReason::AmountScale),
        ("-952,40", "12345678901234567", RejectReason::AmountRange),
        ("2023-11-28 06:35:12", "\t", RejectReason::TimestampEmpty),
        ("2023-11-28 06:35:12", "28/11/2023", RejectReason::TimestampFormat),
        ("refund", "", RejectReason::OperationTypeEmpty),
        ("debit", "", RejectReason::SideEmpty),
        ("EDF", "E\0F", RejectReason::NulByte),
        ("|FR", "", RejectReason::FieldCount),
        ("|FR", "|FR|more", RejectReason::FieldCount),
    ];
    for (good, bad, reason) in cases {
        let row = GOOD.replace(good, bad);
        assert_eq!(check(row.as_bytes()).unwrap_err().reason, *reason, "{row:?}");
    }
    assert_eq!(check(b"1|\xe9|1|2023-11-28 06:35:12|||x|FR").unwrap_err().reason, RejectReason::Encoding);
    let long = GOOD.replace("Card", &"x".repeat(MAX_ROW_BYTES));
    assert_eq!(check(long.as_bytes()).unwrap_err().reason, RejectReason::RowTooLarge);
}

#[test]
fn a_message_names_the_column_and_quotes_a_bounded_value() {
    let row = GOOD.replace("-952,40", &"9".repeat(50));
    assert_eq!(
        check(row.as_bytes()).unwrap_err().message,
        format!("`amount` has more than 16 digits before the decimal mark: `{}…`", "9".repeat(40))
    );
}

/// Checks a row of another schema, as the source's row 7.
fn check_mapped(mapping: &str, row: &str) -> Result<Transaction, Rejection> {
    let names = "ref|memo|amt|dc|when|kind".split('|').map(str::to_owned).collect();
    let columns = Columns::from_names(names, Some(&serde_json::from_str(mapping).unwrap())).unwrap();
    let fields: Vec<&[u8]> = row.split('|').map(str::as_bytes).collect();
    let dialect = Dialect { delimiter: Delimiter::Pipe, ..RunSettings::example().dialect };
    let settings = RunSettings { dialect, ..RunSettings::example() };
    Rules::new(columns, &settings).check(7, &fields[..], row.len()).map(|valid| valid.transaction)
}

const MAPPING: &str = r#"{"id":{"template":"{ref}/{row}"},"description":"memo","amount":{"column":"amt","unit":"minor","negative_when":{"column":"dc","is":"D"}},"timestamp":{"column":"when","unit":"seconds"},"merchant":{"constant":"ACME"},"operation_type":{"column":"kind","values":{"PMT":"payment"},"otherwise":"other"},"side":{"column":"dc","values":{"D":"debit","C":"credit"}},"attributes":{"keep":["ref"]}}"#;

#[test]
fn a_row_of_another_schema_becomes_a_transaction() {
    let debit = check_mapped(MAPPING, "A1| Rent |95000| D |1325376018|PMT").unwrap();
    assert_eq!(debit.id, Namespace::new("example").identify(IdScheme::V5, "A1/7").0);
    assert_eq!((debit.description.as_str(), debit.amount.to_string().as_str()), ("Rent", "-950.00"));
    assert_eq!(debit.timestamp.to_string(), "2012-01-01T00:00:18Z");
    assert_eq!((debit.merchant.as_deref(), debit.operation_type.as_str()), (Some("ACME"), "payment"));
    assert_eq!((debit.side.as_str(), debit.attributes["ref"].as_str()), ("debit", "A1"));
    let credit = check_mapped(MAPPING, "A2|Wages|7|C|0|WAGE").unwrap();
    assert_eq!((credit.amount.to_string(), credit.operation_type), ("0.07".to_owned(), "other".to_owned()));
}

#[test]
fn an_amount_of_two_columns_has_the_sign_of_its_column() {
    let with = |more: &str, row: &str| {
        let amount = format!(r#"{{"debit":"amt","credit":"dc"{more}}}"#);
        let side = r#"{"from_sign":{"negative":"debit","positive":"credit"}}"#;
        let mapping = format!(
            r#"{{"id":"ref","description":"memo","amount":{amount},"timestamp":{{"column":"when","unit":"seconds"}},"operation_type":"kind","side":{side}}}"#
        );
        let row = format!("1|m|{row}|0|x");
        match check_mapped(&mapping, &row) {
            Ok(transaction) => format!("{} {}", transaction.amount, transaction.side),
            Err(Rejection { reason, message, .. }) => format!("{reason}: {message}"),
        }
    };
    for (more, row, expected) in [
        ("", "800.00|", "-800.00 debit"),
        ("", " |2500", "2500 credit"),
        ("", "5|0", "-5 debit"),
        ("", "5.00|0.00", "-5.00 debit"),
        ("", "0|2500", "2500 credit"),
        ("", "+0.0|7", "7 credit"),
        ("", "-0.00|7", "7 credit"),
        ("", "|", "amount_empty: `amount` (column `amt`) and `amount` (column `dc`) are empty"),
        (
            "",
            "5|7",
            "amount_twice: `amount` (column `amt`) and `amount` (column `dc`) are both set, and neither is zero: `5 and 7`",
        ),
        (
            "",
            "-5|",
            "amount_sign: `amount` (column `amt`) has a sign although its column implies it: set `sign = \
             \"absolute\"` in the mapping: `-5`",
        ),
        (
            "",
            "5|-",
            "amount_format: `amount` (column `dc`) is not a number with a decimal point (default): `-`; set NULL_VALUES if `-` \
             stands for nothing",
        ),
        (
            "",
            "5|1.2.3",
            "amount_format: `amount` (column `dc`) is not a number with a decimal point (default): `1.2.3`",
        ),
        (r#","sign":"absolute""#, "-5|", "-5 debit"),
        (r#","sign":"absolute""#, "|-5", "5 credit"),
        (r#","unit":"minor""#, "12345|0", "-123.45 debit"),
        (r#","decimals":"round""#, "|1.00005", "1.0001 credit"),
    ] {
        let found = with(more, row);
        assert_eq!(found, expected, "{more} {row}");
    }
    for zeros in ["0|", "|0.00", "0|0", "-0|"] {
        let found = with("", zeros);
        assert!(found.starts_with("value_unknown: `side` (the sign of `amount`) has no value for"), "{zeros}: {found}");
    }
}

#[test]
fn a_template_has_no_blanks_at_its_ends() {
    let mapping = r#"{"id":"ref","description":{"template":"{memo} {kind} "},"amount":"amt","timestamp":{"column":"when","unit":"seconds"},"operation_type":"dc","side":"dc"}"#;
    for (row, expected) in [("1|m|5|x|0|k", "m k"), ("1||5|x|0|k", "k"), ("1|m|5|x|0|", "m")] {
        assert_eq!(check_mapped(mapping, row).unwrap().description, expected, "{row}");
    }
    assert_eq!(check_mapped(mapping, "1||5|x|0|").unwrap_err().reason, RejectReason::DescriptionEmpty);
}

#[test]
fn a_side_may_follow_the_sign() {
    let base = MAPPING.replace(
        r#""side":{"column":"dc","values":{"D":"debit","C":"credit"}}"#,
        r#""side":{"from_sign":{"negative":"debit","positive":"credit","zero":"none"}}"#,
    );
    for (row, expected) in [("5|D", "debit"), ("5|C", "credit"), ("0|D", "none"), ("-5|C", "debit")] {
        let row = format!("A|m|{row}|0|PMT");
        assert_eq!(check_mapped(&base, &row).unwrap().side, expected, "{row}");
    }
}

#[test]
fn a_message_of_a_mapped_field_names_the_column_too() {
    let cases = [
        ("A|m|1|X|0|PMT", "value_unknown: `side` (column `dc`) is not a value known to the mapping: `X`"),
        ("A|m|x|D|0|PMT", "amount_format: `amount` (column `amt`) is not a number with a decimal point (default): `x`"),
        (
            "A|m|1.234|D|0|PMT",
            "amount_scale: `amount` (column `amt`) has more than 4 decimals: `1.234`; set `decimals = \"round\"` in a mapping to have it rounded",
        ),
        ("A| |1|D|0|PMT", "description_empty: `description` (column `memo`) is empty"),
        (
            "A|m|1|D|1325376018000|PMT",
            "timestamp_format: `timestamp` (column `when`) is not a number of seconds that gives a year from 1900 to \
             2100 (set by the mapping): `1325376018000`; check `unit` and `since` in the mapping",
        ),
        ("A\0|m|1|D|0|PMT", "nul_byte: `id` (template `{ref}/{row}`) holds a NUL byte"),
    ];
    for (row, expected) in cases {
        let Rejection { reason, message, .. } = check_mapped(MAPPING, row).unwrap_err();
        assert_eq!(format!("{reason}: {message}"), expected);
    }
}

/// Settings whose decimal mark and timestamps were decided in the same way.
fn settled(mark: DecimalMark, timestamps: &str, by: DecidedBy) -> RunSettings {
    let decided = |what| Decision { what, value: String::new(), by, evidence: String::new() };
    RunSettings {
        dialect: Dialect { delimiter: Delimiter::Pipe, decimal_mark: mark, encoding: Encoding::UTF_8 },
        timestamps: timestamps.parse().unwrap(),
        decisions: [DecisionSubject::DecimalMark, DecisionSubject::Timestamps, DecisionSubject::Encoding]
            .map(decided)
            .to_vec(),
        ..RunSettings::example()
    }
}

fn check_by(settings: &RunSettings, row: &[u8]) -> Result<ValidRow, Rejection> {
    let columns = Columns::from_names(HEADER.split('|').map(str::to_owned).collect(), None).unwrap();
    let fields: Vec<&[u8]> = row.split(|byte| *byte == b'|').collect();
    Rules::new(columns, settings).check(1, &fields[..], row.len())
}

#[test]
fn a_message_names_the_rule_its_origin_and_the_setting() {
    use DecidedBy::{Default, Recognised, Set};
    use DecimalMark::{Comma, Point};
    let amount = |text: &str| format!("1|Card|{text}|2023-11-28 06:35:12||x|debit|").into_bytes();
    let at = |text: &str| format!("1|Card|1|{text}||x|debit|").into_bytes();
    let unset = RunSettings {
        amounts: AmountSyntax { currencies: Vec::new(), is_mark_unknown: true },
        ..settled(Point, "iso", Default)
    };
    let iso = |mark, by| settled(mark, "iso", by);
    let by_pattern = settled(Point, "%d/%m/%Y", Recognised);
    let zoned = settled(Point, "%d/%m/%Y %H:%M %Z", Set);
    let latin = settled(Point, "iso", Set);
    let latin = RunSettings { dialect: Dialect { encoding: Encoding::WINDOWS_1252, ..latin.dialect }, ..latin };
    let two_bytes = settled(Point, "iso", Recognised);
    let two_bytes = RunSettings { dialect: Dialect { encoding: Encoding::UTF_16LE, ..two_bytes.dialect }, ..two_bytes };
    // The settings, the row, the message, and whether another reading fits.
    let cases: Vec<(RunSettings, Vec<u8>, &str, bool)> = vec![
        (
            iso(Point, Recognised),
            amount("-39,58"),
            "amount_format: `amount` is not a number with a decimal point (recognised): `-39,58`; set DECIMAL_MARK if it is a comma",
            true,
        ),
        (
            iso(Comma, Set),
            amount("39.58"),
            "amount_format: `amount` is not a number with a decimal comma (set): `39.58`; set DECIMAL_MARK if it is a point",
            false,
        ),
        (
            iso(Point, Default),
            amount("12.50 €"),
            "amount_format: `amount` is not a number with a decimal point (default): `12.50 €`; set CURRENCY if `€` is its currency",
            false,
        ),
        (
            iso(Point, Default),
            amount("-$1,234.56 USD"),
            "amount_format: `amount` is not a number with a decimal point (default): `-$1,234.56 USD`; set CURRENCY if `$` and `USD` \
             are its currency",
            false,
        ),
        (
            iso(Point, Default),
            amount("12.50 CR"),
            "amount_format: `amount` is not a number with a decimal point (default): `12.50 CR`",
            false,
        ),
        (
            iso(Point, Recognised),
            amount("none"),
            "amount_format: `amount` is not a number with a decimal point (recognised): `none`",
            false,
        ),
        (
            iso(Point, Recognised),
            amount("1\u{200e}5"),
            "amount_format: `amount` is not a number with a decimal point (recognised): `1\\u{200e}5`",
            false,
        ),
        (
            unset,
            amount("(3,000)"),
            "amount_mark: `amount` is -3000 with a decimal point and -3.000 with a decimal comma: `(3,000)`; set DECIMAL_MARK to \
             the intended one",
            false,
        ),
        (
            iso(Point, Recognised),
            amount("1.00001"),
            "amount_scale: `amount` has more than 4 decimals: `1.00001`; set `decimals = \"round\"` in a mapping to have it rounded",
            false,
        ),
        (
            by_pattern.clone(),
            at("04/25/2024"),
            "timestamp_format: `timestamp` is not a date and time by %d/%m/%Y (recognised): `04/25/2024`; set TIMESTAMP_FORMAT",
            true,
        ),
        (
            settled(Point, "epoch-seconds", Recognised),
            at("1710496800123"),
            "timestamp_format: `timestamp` is not a number of seconds that gives a year from 1900 to 2100 (recognised): \
             `1710496800123`; set TIMESTAMP_FORMAT",
            true,
        ),
        (
            by_pattern.clone(),
            at("soon"),
            "timestamp_format: `timestamp` is not a date and time by %d/%m/%Y (recognised): `soon`; set TIMESTAMP_FORMAT",
            false,
        ),
        (
            iso(Point, Default),
            at("15/03/2024"),
            "timestamp_format: `timestamp` is not a date and time like 2023-11-28 06:35:12 or 2023-11-28T06:35:12Z (default): \
             `15/03/2024`; set TIMESTAMP_FORMAT",
            false,
        ),
        (
            iso(Point, Default),
            at("1710496800123"),
            "timestamp_format: `timestamp` is not a date and time like 2023-11-28 06:35:12 or 2023-11-28T06:35:12Z (default): \
             `1710496800123`; set TIMESTAMP_FORMAT to the unit it counts, such as epoch-milliseconds, or `unit` in a mapping",
            false,
        ),
        (
            zoned,
            at("15/03/2024 10:00 CST"),
            "timestamp_zone: `timestamp` names an ambiguous or unknown time zone: \
             `15/03/2024 10:00 CST`; set TIME_ZONE to the zone that uses this name, or write an offset such as +01:00",
            false,
        ),
        (
            iso(Point, Default),
            b"1|caf\xe9|1|2023-11-28 06:35:12||x|debit|".to_vec(),
            "encoding: `description` is not valid UTF-8 text (default); it would be `caf\u{e9}` in windows-1252; set ENCODING to \
             that of the source",
            false,
        ),
        (
            latin,
            b"1|\xc5\x81ukasz|1|2023-11-28 06:35:12||x|debit|".to_vec(),
            "encoding: `description` is not valid windows-1252 text (set); it would be `Łukasz` in UTF-8; set ENCODING to \
             that of the source",
            false,
        ),
        (
            two_bytes,
            b"1|caf\xff|1|2023-11-28 06:35:12||x|debit|".to_vec(),
            "encoding: `description` is not valid UTF-16LE text (recognised); set ENCODING to that of the source",
            false,
        ),
    ];
    for (settings, row, expected, other_reading) in cases {
        let rejection = check_by(&settings, &row).unwrap_err();
        let shown = format!("{}: {}", rejection.reason, rejection.message);
        assert_eq!((shown.as_str(), rejection.other_reading), (expected, other_reading));
    }
}

#[test]
fn invisible_characters_around_a_value_are_trimmed() {
    let row = " 7 |\tShop \u{a0}| \u{200e}-952,40|2023-11-28 06:35:12\u{202f}| \u{200b} |card   |\u{feff}debit | FR ";
    let ValidRow { transaction, external_id, is_ambiguous_hour } = check(row.as_bytes()).unwrap();
    assert_eq!((external_id.as_deref(), transaction.amount.to_string().as_str()), (Some("7"), "-952.40"));
    assert_eq!((transaction.description.as_str(), transaction.merchant), ("Shop", None));
    assert_eq!((transaction.operation_type.as_str(), transaction.side.as_str()), ("card", "debit"));
    assert_eq!((transaction.attributes["country"].as_str(), is_ambiguous_hour), ("FR", false));
    let empty = GOOD.replace("refund", "\u{200b}\u{2060}");
    assert_eq!(check(empty.as_bytes()).unwrap_err().reason, RejectReason::OperationTypeEmpty);
}

#[test]
fn a_run_of_the_first_rules_is_checked_by_them() {
    let first = RunSettings { reading: ReadingRules::First, ..settled(DecimalMark::Comma, "iso", DecidedBy::Default) };
    let valid = check_by(&first, b"7| Shop |-1,50|2023-11-28 06:35:12| M |card  |debit| FR").unwrap().transaction;
    assert_eq!((valid.description.as_str(), valid.operation_type.as_str()), (" Shop ", "card  "));
    assert_eq!((valid.merchant.as_deref(), valid.attributes["country"].as_str()), (Some(" M "), " FR"));
    for (good, bad, expected) in [
        ("-952,40", "1.234,50", "amount_format: `amount` is not a decimal number: `1.234,50`"),
        ("-952,40", "1,50000", "amount_scale: `amount` has more than 4 decimals: `1,50000`"),
        (
            "06:35:12",
            "06:35:12 UTC",
            "timestamp_format: `timestamp` is not a date and time like 2023-11-28 06:35:12 or 2023-11-28T06:35:12Z: \
             `2023-11-28 06:35:12 UTC`",
        ),
    ] {
        let rejection = check_by(&first, GOOD.replace(good, bad).as_bytes()).unwrap_err();
        assert_eq!(format!("{}: {}", rejection.reason, rejection.message), expected);
    }
}

#[test]
fn the_repeated_hour_is_reported() {
    let paris = RunSettings {
        time_zone: "Europe/Paris".parse().unwrap(),
        ..settled(DecimalMark::Comma, "iso", DecidedBy::Default)
    };
    for (at, expected) in
        [("2024-10-27 02:15:00", true), ("2024-10-27 03:15:00", false), ("2024-10-27 02:15:00Z", false)]
    {
        let row = GOOD.replace("2023-11-28 06:35:12", at);
        assert_eq!(check_by(&paris, row.as_bytes()).unwrap().is_ambiguous_hour, expected, "{at}");
    }
}

/// Messages shown outside the database contain none of the row's values, whatever rule it breaks, and stored messages
/// show no card number.
#[test]
fn a_rejection_without_values_has_no_row_content() {
    let settings = |mark_by, timestamps: &str, mapping: Option<&str>| RunSettings {
        dialect: Dialect { delimiter: Delimiter::Pipe, decimal_mark: DecimalMark::Comma, encoding: Encoding::UTF_8 },
        timestamps: timestamps.parse().unwrap(),
        amounts: AmountSyntax { is_mark_unknown: mark_by == DecidedBy::Default, ..AmountSyntax::default() },
        mapping: mapping.map(|mapping| serde_json::from_str(mapping).unwrap()),
        ..RunSettings::example()
    };
    let mapped = r#"{"amount":{"column":"amount","negative_when":{"column":"side","is":["debit"]}},"side":{"column":"side","values":{"debit":"d"}},"timestamp":{"column":"timestamp","unit":"seconds"}}"#;
    let runs = [
        settings(DecidedBy::Set, "iso", None),
        settings(DecidedBy::Default, "%d/%m/%Y", None),
        settings(DecidedBy::Default, "epoch-seconds", Some(mapped)),
    ];
    let values = [
        "4111111111111111",
        "Jean Dupont",
        "Jean 3.000",
        "DE89370400440532013000",
        "Jea",
        "411.111",
        "Jean\n\u{1b}[31m",
    ];
    let mut rejected = 0;
    for run in &runs {
        let columns =
            Columns::from_names(HEADER.split('|').map(str::to_owned).collect(), run.mapping.as_deref()).unwrap();
        let rules = Rules::new(columns, run);
        for value in values {
            let latin = [value.as_bytes(), b"\xe9"].concat();
            for (place, bytes) in (0..8).flat_map(|place| [(place, value.as_bytes()), (place, &latin[..])]) {
                let mut fields: Vec<&[u8]> = GOOD.split('|').map(str::as_bytes).collect();
                fields[place] = bytes;
                let Err(rejection) = rules.check(1, &fields[..], 10) else { continue };
                rejected += 1;
                let (message, shown) = (&rejection.message, rejection.without_values());
                assert!(!shown.contains("Jea") && !shown.contains("411") && !shown.contains("370400"), "{shown}");
                assert!(!message.contains("4111111111111111") && !message.contains("370400"), "{message}");
                assert!(!message.contains(char::is_control), "{message}");
            }
        }
    }
    assert!(rejected > 100, "{rejected}");
}
