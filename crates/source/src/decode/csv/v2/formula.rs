//! Text that a spreadsheet was kept from taking for a number: `="0001"` is `0001`.

/// The text that such a formula gives, where a field is one. Blanks around it are no part of it.
pub(super) fn text(field: &[u8]) -> Option<Vec<u8>> {
    let inner = field.trim_ascii().strip_prefix(b"=\"")?.strip_suffix(b"\"")?;
    let mut text = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(quote) = memchr::memchr(b'"', rest) {
        // A quote within it stands twice; else it is another formula, which is left as it is.
        if rest.get(quote + 1) != Some(&b'"') {
            return None;
        }
        text.extend_from_slice(&rest[..=quote]);
        rest = &rest[quote + 2..];
    }
    text.extend_from_slice(rest);
    Some(text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_formula_that_is_a_text_is_that_text() {
        for (field, expected) in [
            ("=\"0001\"", Some("0001")),
            (" =\"0001\"\t", Some("0001")),
            ("=\"\"", Some("")),
            ("=\"5\"\" pipe\"", Some("5\" pipe")),
            ("=\"\"\"\"", Some("\"")),
            ("=\"", None),
            ("=\"a\"&\"b\"", None),
            ("=\"a", None),
            ("=1+1", None),
            ("= \"a\"", None),
            ("\"a\"", None),
            ("", None),
        ] {
            assert_eq!(super::text(field.as_bytes()).as_deref(), expected.map(str::as_bytes), "{field}");
        }
    }
}
