//! Fields apart from quotes: nulls, escapes, formulas, surplus and missing fields.

use super::*;

#[test]
fn unquoted_null_values_are_empty() {
    let text = "\\N;NULL; NULL\t;\"NULL\";null;NULLS;\\N x;=\"NULL\"\n";
    let default = TestLayout::default();
    assert_eq!(default.shown(text), ["||||null|NULLS|\\N x|NULL"].map(|row| row.replacen("||||", "|||NULL|", 1)));
    let none = TestLayout { csv: CsvSyntax { null_values: vec![], ..CsvSyntax::default() }, ..TestLayout::default() };
    assert_eq!(none.shown("NULL;\\N\n"), ["NULL|\\N"]);
    let values = ["NaN", "N/A", "-", ""].map(str::to_owned).to_vec();
    let others = TestLayout { csv: CsvSyntax { null_values: values, ..CsvSyntax::default() }, ..TestLayout::default() };
    assert_eq!(others.shown("NaN; N/A ;-;-1;NULL; ;\"-\"\n"), ["|||-1|NULL| |-"]);
}

#[test]
fn null_values_are_compared_in_the_encoding() {
    let csv = CsvSyntax { null_values: vec!["–".to_owned()], ..CsvSyntax::default() };
    let layout = TestLayout { csv: csv.clone(), encoding: Encoding::WINDOWS_1252, ..TestLayout::default() };
    let fields = |layout: &TestLayout, bytes: &[u8]| layout.all(bytes).remove(0).fields;
    assert_eq!(fields(&layout, b"\x96;\"\x96\";x\x96"), [&b""[..], b"\x96", b"x\x96"]);
    assert_eq!(fields(&TestLayout { csv, ..TestLayout::default() }, "–;\u{2013} ".as_bytes()), [b"", b""]);
}

#[test]
fn an_escaped_character_is_itself() {
    let escaping = |columns| TestLayout {
        columns,
        csv: CsvSyntax { escape: Some('\\'), ..CsvSyntax::default() },
        ..TestLayout::default()
    };
    for (text, expected) in [
        (r#"1;"Joe\'s \"Diner\"";"\\""#, vec![r#"1|Joe's "Diner"|\"#]),
        (r"a\;b;c\\;\N;NULL", vec![r"a;b|c\||"]),
        (r#"\"a;"a""b";x\"y"#, vec![r#""a|a"b|x"y"#]),
        (r#"\t\n\r\0\b\Z\x;"\t\é""#, vec!["\t\n\r\0\u{8}\u{1a}x|\té"]),
        (r#""\N";\N;\Nx"#, vec!["N||Nx"]),
        ("a\\\nb;c\nd;e", vec!["a\nb|c", "d|e"]),
        ("a\\\r\nb;c\r\nd;e", vec!["a\r\nb|c", "d|e"]),
        ("\"a\\\nb\";c\n", vec!["a\nb|c"]),
        ("a;b\\", vec!["a|b\\"]),
        ("a;\"b\\", vec!["quote_malformed: a;\"b\\"]),
        ("a;\"b\\\"\nc;d", vec!["quote_malformed: a;\"b\\\"", "c|d"]),
        ("\"=\\\"01\\\"\";=\"02\"", vec!["01|02"]),
    ] {
        assert_eq!(escaping(None).shown(text), expected, "{text}");
    }
    // A row over several lines must have the header's fields.
    assert_eq!(escaping(Some(3)).shown("a;b\\\nc;d;e;f\n"), ["quote_malformed: a;b\\", "c|d|e|f"]);
    assert_eq!(escaping(Some(3)).shown("a;b\\\nc;d\n"), ["a|b\nc|d"]);
}

#[test]
fn text_formulas_are_their_texts() {
    let text = "=\"0001\";\"=\"\"0002\"\"\"; =\"-1.50\" ;=\"a\"\"b\";=1+1;\"=A1&\"\"x\"\"\";=\"a\"&\"b\"\n";
    assert_eq!(TestLayout::default().shown(text), ["0001|0002|-1.50|a\"b|=1+1|=A1&\"x\"|=\"a\"&\"b\""]);
}

#[test]
fn a_trailing_delimiter_is_no_field() {
    let csv = CsvSyntax { trailing_delimiter: true, ..CsvSyntax::default() };
    let layout = TestLayout { columns: Some(3), csv: csv.clone(), ..TestLayout::default() };
    for (row, expected) in [
        ("1;2;3;", "1|2|3"),
        ("1;2;3; ", "1|2|3"),
        ("1;2;3;\"\"", "1|2|3"),
        ("1;2;;", "1|2|"),
        ("1;2;3", "1|2|3"),
        ("1;2;", "field_count: 1;2;"),
        ("1;2;\"\"", "field_count: 1;2;\"\""),
        ("1;2;3;x", "1|2|3|x"),
        ("1;2;3;;", "1|2|3||"),
        ("1;2", "1|2"),
        ("1;\"two\nlines\";3;", "1|two\nlines|3"),
    ] {
        assert_eq!(layout.shown(row), [expected], "{row}");
    }
    let filling = TestLayout { csv: CsvSyntax { fill_short_rows: true, ..csv }, ..layout };
    assert_eq!(filling.shown("1;2;\n1;;\n1\n1;2;3;\n"), ["1|2|", "1||", "1||", "1|2|3"]);
}

#[test]
fn short_rows_are_filled_if_declared() {
    let csv = CsvSyntax { fill_short_rows: true, ..CsvSyntax::default() };
    let layout = TestLayout { columns: Some(4), csv, ..TestLayout::default() };
    let text = "1;2;3;4\n1;2\n1;2;3;4;5\n1;\"a\nb\"\n\"x\";\n";
    assert_eq!(layout.shown(text), ["1|2|3|4", "1|2||", "1|2|3|4|5", "1|a\nb||", "x|||"]);
    assert_eq!(TestLayout::columns(4).shown("1;2\n"), ["1|2"]);
}

#[test]
fn any_byte_may_be_the_delimiter() {
    for byte in [1, b'^', b'~', 0x1f, b'\\', b'=', b'#'] {
        let delimiter = Delimiter::Other(byte);
        let text = "1;\"a;\"\"b\"\"\" ;NULL;;x\n".replace(';', &char::from(byte).to_string());
        let expected = "1|a;\"b\"|||x".replace(';', &char::from(byte).to_string());
        assert_eq!(TestLayout { delimiter, ..TestLayout::default() }.shown(&text), [expected]);
    }
    let tab = TestLayout { delimiter: Delimiter::Tab, ..TestLayout::default() };
    assert_eq!(tab.shown("1\t \"a\tb\" \t\t\"\"\t c\n"), ["1|a\tb||| c"]);
}
