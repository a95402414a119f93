//! Headers with and without a mapping.

use super::*;

fn names(header: &str) -> Vec<String> {
    header.split(';').map(str::to_owned).collect()
}

/// The columns that are kept as attributes, in header order.
fn kept(columns: &Columns) -> Vec<(usize, &str)> {
    columns.attributes.iter().map(|column| (column.index, column.name.as_str())).collect()
}

#[test]
fn any_order_any_case_and_the_rest_are_attributes() {
    let columns =
        Columns::from_names(names("Side;AMOUNT;country;id;timestamp;operation_type;description;"), None).unwrap();
    let places = [&columns.side, &columns.id].map(|field| field.from.clone());
    assert_eq!(places, [0, 3].map(Derivation::Column));
    assert_eq!((columns.amount(), &columns.merchant), (Some(1), &None));
    assert_eq!(kept(&columns), [(2, "country"), (7, "column_8")]);
}

#[test]
fn empty_attributes_have_known_sizes() {
    let header = "id;description;amount;timestamp;operation_type;side;merchant";
    for (more, json) in [("", ""), (r#";zip;a"b;"#, r#""zip":"","a\"b":"","column_10":"","#)] {
        let columns = Columns::from_names(names(&format!("{header}{more}")), None).unwrap();
        assert_eq!(columns.attribute_bytes(), json.len(), "{more}");
    }
}

#[test]
fn an_unnamed_column_takes_no_existing_name() {
    let header = "id;description;amount;timestamp;operation_type;side;Column_8;";
    let columns = Columns::from_names(names(header), None).unwrap();
    assert_eq!(kept(&columns), [(6, "Column_8"), (7, "column_8_")]);
}

fn mapped(header: &str, mapping: &str) -> Result<Columns, HeaderError> {
    Columns::from_names(names(header), Some(&serde_json::from_str(mapping).unwrap()))
}

#[test]
fn a_mapping_uses_columns_and_the_rest_are_attributes() {
    let header = ";ref;amt;when;dc;kind;memo;zip;merchant";
    let base = r#""id":"REF","description":{"template":"{memo} {kind}"},"amount":{"column":"amt","negative_when":{"column":"dc","is":"D"}},"timestamp":"when","operation_type":"kind","side":{"column":"dc","values":{}}"#;
    let cases = [
        ("", "0 column_1, 7 zip"),
        (r#","attributes":{"keep":["zip","MEMO"]}"#, "6 memo, 7 zip"),
        (r#","attributes":{"keep":["*","ref"],"drop":["column_1"]}"#, "1 ref, 7 zip"),
        (r#","attributes":{"rename":{"postcode":"zip","direction":"dc"}}"#, "0 column_1, 4 direction, 7 postcode"),
        (r#","attributes":{"keep":[],"rename":{"postcode":"zip"}}"#, "7 postcode"),
    ];
    for (more, expected) in cases {
        let columns = mapped(header, &format!("{{{base}{more}}}")).unwrap();
        let shown: Vec<String> = kept(&columns).iter().map(|(index, name)| format!("{index} {name}")).collect();
        assert_eq!(shown.join(", "), expected, "{more}");
        assert_eq!(columns.amount(), Some(2));
        assert_eq!(columns.merchant.unwrap().from, Derivation::Column(8));
    }
}

#[test]
fn a_missing_mapped_column_is_reported_with_the_existing_ones() {
    let header = "id;description;amt;timestamp;operation_type;side;zip";
    let cases = [
        (
            r#"{"amount":"amount_eur","attributes":{"drop":["is_fraud"]}}"#,
            "the mapping names columns that the header lacks: `amount_eur` for `amount`, `is_fraud` for `attributes`; \
             the header has `id`, `description`, `amt`, `timestamp`, `operation_type`, `side`, `zip`",
        ),
        (
            r#"{"id":{"template":"{no}-{row}"},"amount":"amt"}"#,
            "the mapping names a column that the header lacks: `no` for `id`; \
             the header has `id`, `description`, `amt`, `timestamp`, `operation_type`, `side`, `zip`",
        ),
        (
            r#"{"id":"zip"}"#,
            "missing required column `amount`; \
             the header has `id`, `description`, `amt`, `timestamp`, `operation_type`, `side`, `zip`",
        ),
        (
            r#"{"amount":"amt","attributes":{"rename":{"zip":"side"}}}"#,
            "two columns become the attribute `zip`: rename or drop one of them in the mapping's [attributes]",
        ),
    ];
    for (mapping, expected) in cases {
        assert_eq!(mapped(header, mapping).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_missing_column_is_reported_with_the_existing_ones() {
    let error = Columns::from_names(names("id;amount;timestamp;operation_type"), None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "missing required columns `description`, `side`; the header has `id`, `amount`, `timestamp`, `operation_type`"
    );
}

#[test]
fn an_error_is_one_short_line_whatever_the_header_is() {
    let many = (0..50_000).map(|name| format!("{name}\n{}", "\u{1b}x".repeat(1000))).collect();
    let error = Columns::from_names(many, None).unwrap_err().to_string();
    assert!(error.len() < 1_500 && error.ends_with(" and 49980 more"), "{error}");
    let long = "\u{1b}[31m\r\n".repeat(1000);
    let mapping = serde_json::from_str(&serde_json::json!({ "id": long }).to_string()).unwrap();
    let many_of_it = vec![long; 100];
    let twice = Columns::from_names(many_of_it, Some(&mapping)).unwrap_err().to_string();
    assert!(twice.len() < 600, "{twice}");
    assert!(!error.contains(char::is_control) && !twice.contains(char::is_control));
}

#[test]
fn a_repeated_column_is_ambiguous_if_used() {
    let header = "id;amount;Amount;timestamp;operation_type;description;side";
    let error = Columns::from_names(names(header), None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "column `amount` of `amount` occurs twice in the header, as column_2 and column_3: select one by its position in a \
         mapping, such as `amount = \"column_2\"`"
    );
    let columns = mapped(header, r#"{"amount":"column_3"}"#).unwrap();
    assert_eq!((columns.amount(), kept(&columns)), (Some(2), vec![(1, "amount")]));
    let error = mapped(header, r#"{"amount":"column_3","attributes":{"keep":["AMOUNT"]}}"#).unwrap_err();
    assert!(
        matches!(&error, HeaderError::Twice { field, positions, .. } if field == "attributes" && positions == &[1, 2]),
        "{error}"
    );
}

#[test]
fn an_unused_repeated_column_is_named_by_position() {
    let header = "id;description;amount;Währung;timestamp;operation_type;side;zip;Währung;zip";
    let kept = |mapping: &str| {
        let columns = mapped(header, mapping).unwrap();
        let shown: Vec<String> = kept(&columns).iter().map(|(index, name)| format!("{index} {name}")).collect();
        shown.join(", ")
    };
    for (attributes, expected) in [
        ("{}", "3 Währung, 7 zip, 8 Währung_9, 9 zip_10"),
        (r#"{"drop":["zip"]}"#, "3 Währung, 8 Währung_9"),
        (r#"{"drop":["column_8","währung"]}"#, "9 zip_10"),
        (r#"{"keep":["column_10"]}"#, "9 zip_10"),
        (r#"{"rename":{"currency":"column_9"},"drop":["zip"]}"#, "3 Währung, 8 currency"),
    ] {
        assert_eq!(kept(&format!(r#"{{"attributes":{attributes}}}"#)), expected, "{attributes}");
    }
}

#[test]
fn names_match_by_one_rule() {
    let header = "ID;Description;DÉBIT;Crédit (€);timestamp;operation_type;side;ÉTAT";
    let amount = r#"{"amount":{"debit":"débit","credit":"CRÉDIT\u00a0(€)"},"attributes":{"drop":["état"]}}"#;
    let columns = mapped(header, amount).unwrap();
    assert_eq!((columns.fields_of(2), columns.fields_of(3)), (vec!["amount"], vec!["amount"]));
    assert_eq!(kept(&columns), []);
    assert!(!columns.keeps("État") && columns.keeps("etat"));
}

#[test]
fn amount_texts_come_from_all_its_columns() {
    let texts = |amount: &str, row: &str| {
        let fields: Vec<&[u8]> = row.split(';').map(str::as_bytes).collect();
        let header = "id;description;timestamp;operation_type;side;out;in";
        let columns = mapped(header, &format!(r#"{{"amount":{amount}}}"#)).unwrap();
        columns.amount_texts(1, &fields[..], Encoding::UTF_8).join(" | ")
    };
    let both = r#"{"debit":"out","credit":"in"}"#;
    assert_eq!(texts(both, "1;d;t;o;s; 1.234,56;0,00"), "1.234,56 | 0,00");
    assert_eq!(texts(both, "1;d;t;o;s; ;5"), "5");
    assert_eq!(texts(r#"{"template":"{out}{in}"}"#, "1;d;t;o;s;5,00;"), "5,00");
    assert_eq!(texts(r#""out""#, "1;d;t;o;s;;"), "");
    assert_eq!(texts(r#"{"constant":"1,00"}"#, "1;d;t;o;s;;"), "1,00");
    let names = crate::JsonNames::new(&["a", "b"].map(str::to_owned));
    let number = names.fields(br#"{"a": 3.000, "b": "3.000"}"#).unwrap();
    let header =
        ["amount", "x", "id", "description", "timestamp", "operation_type", "side"].map(str::to_owned).to_vec();
    let columns = |mapping: &str| Columns::from_names(header.clone(), Some(&serde_json::from_str(mapping).unwrap()));
    assert_eq!(columns("{}").unwrap().amount_texts(1, &number, Encoding::UTF_8), Vec::<String>::new());
    assert_eq!(columns(r#"{"amount":"x"}"#).unwrap().amount_texts(1, &number, Encoding::UTF_8), ["3.000"]);
}
