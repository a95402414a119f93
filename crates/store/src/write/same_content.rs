//! Whether two contents of one id differ by the rules of reading alone: an earlier version stored outer blanks, `\N` for nothing
//! and spreadsheet formulas, which this version reads without them.

use std::collections::BTreeMap;

use assay_transaction::{CsvSyntax, Transaction, trimmed};

/// Whether two transactions with one id say the same and had the same external ids. Amounts and timestamps must be equal.
pub(crate) fn is_alike(
    one: &Transaction,
    one_external_id: Option<&str>,
    other: &Transaction,
    other_external_id: Option<&str>,
) -> bool {
    let maybe =
        |one: Option<&str>, other: Option<&str>| text(one.unwrap_or_default()) == text(other.unwrap_or_default());
    one.amount == other.amount
        && one.timestamp == other.timestamp
        && text(&one.description) == text(&other.description)
        && maybe(one.merchant.as_deref(), other.merchant.as_deref())
        && text(&one.operation_type) == text(&other.operation_type)
        && text(&one.side) == text(&other.side)
        && maybe(one_external_id, other_external_id)
        && covers(&one.attributes, &other.attributes)
        && covers(&other.attributes, &one.attributes)
}

/// Whether each attribute is empty, or the others have it too.
fn covers(attributes: &BTreeMap<String, String>, others: &BTreeMap<String, String>) -> bool {
    attributes.iter().all(|(name, value)| text(value) == others.get(name).map_or("", |other| text(other)))
}

/// What a text says: without outer blanks, invisible marks and the formula that protects it from spreadsheets; empty for a null
/// value.
fn text(written: &str) -> &str {
    let inner = trimmed(written);
    let said = inner.strip_prefix("=\"").and_then(|rest| rest.strip_suffix('"')).map_or(inner, trimmed);
    if CsvSyntax::NULL_VALUES.contains(&said) { "" } else { said }
}

#[cfg(test)]
mod tests {
    use assay_transaction::{TimeZone, Timestamp};

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text.as_bytes(), TimeZone::UTC).unwrap()
    }

    fn example() -> Transaction {
        Transaction {
            id: uuid::Uuid::from_u128(1),
            description: "Rent".into(),
            amount: "-12.5".parse().unwrap(),
            timestamp: at("2026-01-11T10:00:00Z"),
            merchant: None,
            operation_type: "card".into(),
            side: "debit".into(),
            attributes: [("account".to_owned(), "0001".to_owned())].into(),
        }
    }

    type Change = fn(&mut Transaction);

    #[test]
    fn what_the_rules_of_reading_change_is_alike() {
        let changes: [Change; 8] = [
            |_| {},
            |other| other.description = " Rent\t".into(),
            |other| other.description = "\u{feff}Rent\u{a0}\u{200e}".into(),
            |other| other.merchant = Some("NULL".into()),
            |other| other.merchant = Some("  ".into()),
            |other| drop(other.attributes.insert("account".into(), "=\"0001\"".into())),
            |other| drop(other.attributes.insert("branch".into(), "\\N".into())),
            |other| drop(other.attributes.insert("branch".into(), String::new())),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut other = example();
            change(&mut other);
            assert!(is_alike(&example(), None, &other, Some(" ")), "change {number}");
            assert!(is_alike(&other, None, &example(), None), "change {number}");
        }
    }

    #[test]
    fn what_else_differs_is_not() {
        let changes: [Change; 8] = [
            |other| other.description = "rent".into(),
            |other| other.description = "Re nt".into(),
            |other| other.amount = "-12.51".parse().unwrap(),
            |other| other.timestamp = at("2026-01-11T10:00:01Z"),
            |other| other.merchant = Some("M".into()),
            |other| other.side = "credit".into(),
            |other| drop(other.attributes.insert("account".into(), "1".into())),
            |other| drop(other.attributes.remove("account")),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut other = example();
            change(&mut other);
            assert!(!is_alike(&example(), None, &other, None), "change {number}");
            assert!(!is_alike(&other, None, &example(), None), "change {number}");
        }
        assert!(!is_alike(&example(), Some("1"), &example(), None));
    }
}
