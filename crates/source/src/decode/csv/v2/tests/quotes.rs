//! Quoted fields, and the cost of malformed quotes.

use super::*;

#[test]
fn a_field_is_quoted_from_delimiter_to_delimiter() {
    for (text, expected) in [
        // Quoted fields.
        ("1;\"a;b\";c", vec!["1|a;b|c"]),
        ("1; \"a;b\"\t;c", vec!["1|a;b|c"]),
        ("\u{feff}\"1\";\u{a0}\"a;b\" \u{a0};c", vec!["1|a;b|c"]),
        ("\"a\nb\";\"\";\"\"\"\"\n", vec!["a\nb||\""]),
        ("1;\"two\r\nlines; one \"\"value\"\"\";x\r\n2;y;z", vec!["1|two\r\nlines; one \"value\"|x", "2|y|z"]),
        // Text with quotes.
        ("1;5\" pipe;c", vec!["1|5\" pipe|c"]),
        ("1;a \"b\" c;\u{a1}\"d\"", vec!["1|a \"b\" c|\u{a1}\"d\""]),
        ("1;a\"\";b\"", vec!["1|a\"\"|b\""]),
        // Malformed quotes.
        ("1;\"Payment to \"ACME\" Ltd\";x\n2;y;z", vec!["quote_malformed: 1;\"Payment to \"ACME\" Ltd\";x", "2|y|z"]),
        (
            "1;\"CAFE;x\n2;y;z\n3;\"BAR;x\n4;y;z",
            vec!["quote_malformed: 1;\"CAFE;x", "2|y|z", "quote_malformed: 3;\"BAR;x", "4|y|z"],
        ),
        (
            "1;\"CAFE;x\n2;y;z\n15;\"Müller; Söhne\";x\n",
            vec!["quote_malformed: 1;\"CAFE;x", "2|y|z", "15|Müller; Söhne|x"],
        ),
        ("1;\"CAFE;x\n2;\"\";z\n3;y;\"z\"\n", vec!["quote_malformed: 1;\"CAFE;x", "2||z", "3|y|z"]),
        ("1;y;\"", vec!["quote_malformed: 1;y;\""]),
        ("1;y;\"z\n", vec!["quote_malformed: 1;y;\"z"]),
        ("1;\"a\"x;\"b\nc\"\n2;y;z", vec!["quote_malformed: 1;\"a\"x;\"b", "c\"", "2|y|z"]),
    ] {
        assert_eq!(TestLayout::columns(3).shown(text), expected, "{text:?}");
    }
}

#[test]
fn stray_quotes_on_two_lines_are_no_field() {
    for (text, expected) in [
        // The field count differs from the header's.
        ("1;x;\"CAFE\n2;y;z\n3;TV 42\";w\n", vec!["quote_malformed: 1;x;\"CAFE", "2|y|z", "3|TV 42\"|w"]),
        ("1;\"CAFE\n2;y\";z\n", vec!["1|CAFE\n2;y|z"]),
        // The field count fits, but the outer lines are rows themselves.
        ("1;\"CAFE;x\nSubtotal\n\n2;y\n3;TV 42\";w\n", {
            vec!["quote_malformed: 1;\"CAFE;x", "Subtotal", "2|y", "3|TV 42\"|w"]
        }),
        ("1;\"CAFE;x\n2;y;z\n3;TV 42\";w\n", vec!["quote_malformed: 1;\"CAFE;x", "2|y|z", "3|TV 42\"|w"]),
        ("1;\"CAFE;x\n3;TV 42\";w\n", vec!["quote_malformed: 1;\"CAFE;x", "3|TV 42\"|w"]),
        // A text of several lines with delimiters.
        ("1;\"Dear all;\nyours truly\";w\n", vec!["1|Dear all;\nyours truly|w"]),
    ] {
        assert_eq!(TestLayout::columns(3).shown(text), expected, "{text:?}");
    }
}

#[test]
fn blanks_are_compared_in_the_encoding() {
    let layout = TestLayout { columns: Some(3), encoding: Encoding::WINDOWS_1252, ..TestLayout::default() };
    let fields = layout.all(b"1;\xa0\"a;b\"\xa0;\xc2\xa0\"c\"\n").remove(0).fields;
    assert_eq!(fields, [&b"1"[..], b"a;b", b"\xc2\xa0\"c\""]);
}

#[test]
fn an_escape_before_a_quote_is_hinted_at() {
    for (text, expected) in [("1;\"a \\\"b\\\"\";c", true), ("1;\"a \"b\";c", false)] {
        let mut reader = TestLayout::default().reader(Box::pin(std::io::Cursor::new(text)), Position::START);
        let batch = block_on(reader.next_batch(1)).unwrap().unwrap();
        let message = batch.rows().next().unwrap().rejection().unwrap().message;
        assert_eq!(message.contains("ESCAPE=\\"), expected, "{message}");
    }
}

#[test]
fn a_malformed_row_says_why() {
    let text = format!("1;\"oops\n{}\n", "y".repeat(MAX_ROW_BYTES + 5));
    let mut reader = TestLayout::default().reader(Box::pin(std::io::Cursor::new(text)), Position::START);
    let batch = block_on(reader.next_batch(10)).unwrap().unwrap();
    let messages: Vec<_> = batch.rows().map(|row| row.rejection().unwrap().message).collect();
    assert!(messages[0].starts_with("a quote that opens a field on this line is not closed"), "{}", messages[0]);
    assert_eq!(messages[1], "the row has 262149 bytes, more than 262144");
}

/// Input cannot force a search through the rest of the source for each row.
#[test]
fn stray_quotes_in_every_line_are_read_quickly() {
    let escaping = CsvSyntax { escape: Some('\\'), ..CsvSyntax::default() };
    for (line, csv) in [
        ("x;\"y;z\n", CsvSyntax::default()),
        ("x\";\";\n", CsvSyntax::default()),
        ("x;\"\"\"\n", CsvSyntax::default()),
        ("\";\n", CsvSyntax::default()),
        ("x;\"\"\"\"\n", CsvSyntax::default()),
        ("x\\\n", escaping),
    ] {
        let lines = 50_000;
        let text = line.repeat(lines);
        let layout = TestLayout { csv, ..TestLayout::columns(7) };
        let began = std::time::Instant::now();
        let rows = layout.rest(text.as_bytes(), Position::START, &[], 1000);
        assert_eq!(rows.len(), lines, "{line:?}");
        assert!(began.elapsed().as_secs() < 20, "{line:?}: {:?}", began.elapsed());
    }
}

/// Well-formed rows of three or more fields.
fn any_rows() -> impl Strategy<Value = (Vec<Vec<String>>, bool)> {
    (3_usize..6).prop_flat_map(|columns| {
        let field = prop_oneof![3 => "[a-c ]{0,4}", 1 => any_field()];
        (proptest::collection::vec(proptest::collection::vec(field, columns), 1..10), any::<bool>())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    /// A stray quote costs no other row, unless it forms a valid quoted field.
    #[test]
    fn a_stray_quote_costs_no_other_row(
        (rows, quote_all) in any_rows(),
        place in any::<prop::sample::Index>(),
        line_end in proptest::sample::select(&["\n", "\r\n"][..]),
    ) {
        let layout = TestLayout::columns(rows[0].len());
        let (text, _) = write(&rows, Delimiter::Semicolon, line_end, quote_all, &[]);
        let before = layout.all(text.as_bytes());
        // A field whose lines could be rows is given up: the text already contains a stray quote.
        prop_assume!(before.iter().all(|row| row.malformed.is_none()));
        let at = (0..=text.len()).filter(|at| text.is_char_boundary(*at)).collect::<Vec<_>>();
        let at = at[place.index(at.len())];
        let broken = [&text[..at], "\"", &text[at..]].concat();
        let after = layout.all(broken.as_bytes());
        let (mut behind, mut untouched, mut touched) = (0, Vec::new(), 0..0);
        for row in &before {
            let end = usize::try_from(row.end.offset).unwrap();
            if (behind..end).contains(&at) {
                touched = behind..end + 1;
            } else {
                untouched.push((&row.raw, &row.fields, &row.malformed));
            }
            behind = end;
        }
        if touched.is_empty() {
            // After the last row.
            touched = at..at + 1;
        }
        // A row of several lines that spans the touched row and another.
        let mut start = 0;
        let is_reread = after.iter().any(|row| {
            let end = usize::try_from(row.end.offset).unwrap();
            let own = std::mem::replace(&mut start, end)..end;
            let is_across = own.start < touched.end && touched.start < own.end && (own.end > touched.end || own.start < touched.start);
            is_across && row.malformed.is_none() && row.raw.contains(&b'\n')
        });
        if !is_reread {
            let mut found = after.iter().map(|row| (&row.raw, &row.fields, &row.malformed));
            for row in untouched {
                prop_assert!(found.any(|other| other == row), "{:?} of {:?} is lost in {:?}", row, text, broken);
            }
        }
    }
}
