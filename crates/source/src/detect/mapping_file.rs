//! The file of a column mapping: TOML, read once with the settings.

use std::sync::Arc;

use assay_transaction::{Mapping, problem_in_text};

use crate::error::io_cause;

/// Reads a mapping; the error is one line with the position.
pub(crate) fn read_mapping(path: &str) -> Result<Arc<Mapping>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {path} ({})", io_cause(&error)))?;
    let mapping: Mapping = toml::from_str(&text)
        .map_err(|error| format!("{path}, {}", problem_in_text(&text, error.span(), error.message())))?;
    mapping.check().map_err(|what| format!("{path}: {what}"))?;
    Ok(Arc::new(mapping))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> Result<Arc<Mapping>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.toml");
        std::fs::write(&path, toml).unwrap();
        let path = path.to_str().unwrap();
        read_mapping(path).map_err(|error| error.strip_prefix(path).expect("the file's name").to_owned())
    }

    #[test]
    fn a_mapping_in_toml_equals_its_frozen_json() {
        let toml = r#"
            id = { template = "{nameOrig}-{row}" }
            amount = { column = "amt", unit = 0.01, negative_when = { column = "dc", is = "D" } }
            timestamp = { column = "step", unit = "hours", since = 2023-01-01T00:00:00Z }
            side = { from_sign = { negative = "debit", positive = "credit" } }
            merchant = { path = "shop" }
            [operation_type]
            column = "type"
            otherwise = "other"
            values = { CASH_IN = "deposit" }
            [attributes]
            drop = ["isFraud"]
            [attributes.rename]
            postcode = "zip"
        "#;
        let json = r#"{"id":{"template":"{nameOrig}-{row}"},"amount":{"column":"amt","unit":"minor","negative_when":{"column":"dc","is":"D"}},"timestamp":{"column":"step","unit":"hours","since":"2023-01-01T00:00:00Z"},"side":{"from_sign":{"negative":"debit","positive":"credit"}},"merchant":{"path":"shop"},"operation_type":{"column":"type","values":{"CASH_IN":"deposit"},"otherwise":"other"},"attributes":{"drop":["isFraud"],"rename":{"postcode":"zip"}}}"#;
        let mapping = read(toml).unwrap();
        assert_eq!(*mapping, serde_json::from_str(json).unwrap());
        let frozen = serde_json::to_string(&mapping).unwrap();
        assert_eq!(serde_json::from_str::<Mapping>(&frozen).unwrap(), *mapping);
    }

    #[test]
    fn an_error_in_a_mapping_names_its_position() {
        let cases = [
            ("id = \"a\"\namount = {", ", line 2, column "),
            ("id = \"a\"\nid = \"b\"", ", line 2, column 1: duplicate key"),
            ("id = { colum = \"a\" }", ", line 1, column 8: unknown field `colum`, expected one of `constant`"),
            ("id = \"a\"\n\nside = { constant = \"\" }", ", line 3, column 8: a constant must not be blank here"),
            ("timestamp = { column = \"t\", unit = \"weeks\" }", "unknown variant `weeks`, expected one of `days`"),
            ("[attributes]\ndrop = \"a\"", ", line 2, column 8: invalid type: string \"a\", expected a sequence"),
        ];
        for (toml, expected) in cases {
            let error = read(toml).expect_err(toml);
            assert!(error.contains(expected) && !error.contains('\n'), "{toml}: {error}");
        }
        let error = read("id = { columns = [\"Date\", \"Payee\"] }").unwrap_err();
        assert!(error.starts_with(": an id made of `columns` needs a `namespace`"), "{error}");
        assert!(read("namespace = \"account-1\"\nid = { columns = [\"Date\", \"Payee\"] }").is_ok());
        let error = read_mapping("/nowhere.toml").unwrap_err();
        assert_eq!(error, "cannot read /nowhere.toml (it does not exist)");
    }
}
