//! Well-formed files of every style: what separates fields, how they are quoted, how lines end, how amounts and dates are
//! written, in which encoding, as CSV and as lines of JSON. The same dice always make the same file.

use std::fmt::Write as _;

use assay_testkit::Dice;
use assay_transaction::Encoding;

/// A file, and what has to be declared of it.
#[derive(Debug)]
pub(super) struct File {
    pub(super) bytes: Vec<u8>,
    /// Where the rows begin.
    pub(super) data: usize,
    pub(super) is_json: bool,
    /// What stands between fields, for CSV.
    pub(super) delimiter: u8,
    /// The character that takes its meaning from the one behind it.
    pub(super) escape: Option<u8>,
    /// How many names the header has.
    pub(super) columns: usize,
    /// Flags of a loader that declare what is never recognised.
    pub(super) flags: Vec<&'static str>,
}

const COLUMNS: [&str; 7] = ["id", "description", "amount", "timestamp", "merchant", "operation_type", "side"];
const EXTRA: [&str; 3] = ["country", "note", "branch"];

/// Encodings with texts that need them. The first is UTF-8, which needs no declaration.
const ENCODINGS: [(&str, [&str; 4]); 4] = [
    ("utf-8", ["Café Zürich", "Ōsaka 🍕 lunch", "Société Générale", "żółw & co"]),
    ("windows-1252", ["Café Zürich", "Société Générale", "naïve façade", "20 € Übertrag"]),
    ("gbk", ["超市 购物", "北京 地铁", "转账 工资", "咖啡"]),
    ("shift_jis", ["スーパー", "東京 電力", "表示 ソース", "振込"]),
];
const TEXTS: [&str; 6] =
    ["Card payment", "Rent March", "Transfer to savings", "Groceries", "O'Brien & Sons", "refund no. 7"];

/// How dates are written.
#[derive(Debug, Clone, Copy)]
enum Dates {
    Iso,
    IsoZone,
    DayFirst,
    MonthFirst,
    Dots,
    Compact,
    Slashes,
}

/// How fields are quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quoting {
    Minimal,
    Texts,
    All,
}

/// How a file of CSV is written.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says of one trait whether the file has it, and every mixture is there"
)]
struct Style {
    delimiter: char,
    quoting: Quoting,
    line_end: &'static str,
    has_comma_mark: bool,
    is_grouped: bool,
    dates: Dates,
    texts: [&'static str; 4],
    encoding: Encoding,
    has_lines_in_fields: bool,
    has_escape: bool,
    is_padded: bool,
    has_trailing_delimiter: bool,
    extras: usize,
}

/// Makes a file.
pub(super) fn make(dice: &mut Dice) -> File {
    let (label, texts) = if dice.one_in(3) { dice.pick(&ENCODINGS) } else { ENCODINGS[0] };
    let encoding = Encoding::of(label).expect("a label of the standard");
    let mut flags = if label == "utf-8" { Vec::new() } else { vec!["--encoding", label] };
    if dice.one_in(4) {
        return json(dice, encoding, texts, flags);
    }
    let delimiter = dice.pick(&[',', ',', ',', ';', ';', ';', '\t', '|', '^']);
    let style = Style {
        delimiter,
        quoting: dice.pick(&[Quoting::Minimal, Quoting::Minimal, Quoting::Texts, Quoting::All]),
        line_end: dice.pick(&["\n", "\n", "\n", "\r\n", "\r\n", "\r"]),
        has_comma_mark: dice.one_in(3),
        is_grouped: dice.one_in(4),
        dates: dice.pick(&[
            Dates::Iso,
            Dates::Iso,
            Dates::IsoZone,
            Dates::DayFirst,
            Dates::MonthFirst,
            Dates::Dots,
            Dates::Compact,
            Dates::Slashes,
        ]),
        texts,
        encoding,
        has_lines_in_fields: dice.one_in(3),
        has_escape: dice.one_in(10),
        is_padded: dice.one_in(8),
        has_trailing_delimiter: dice.one_in(10),
        extras: dice.below(EXTRA.len() + 1),
    };
    if delimiter == '^' {
        flags.extend(["--delimiter", "^"]);
    }
    if style.has_escape {
        flags.extend(["--escape", "\\"]);
    }
    csv(dice, &style, flags)
}

fn csv(dice: &mut Dice, style: &Style, flags: Vec<&'static str>) -> File {
    let Style { delimiter, line_end, .. } = *style;
    let mut text = String::new();
    if style.encoding == Encoding::UTF_8 && dice.one_in(6) {
        text.push('\u{feff}');
    }
    if dice.one_in(8) {
        write!(text, "Statement of account 4711{line_end}{line_end}Period{delimiter}2026{line_end}").expect("a string");
    }
    let names: Vec<&str> = COLUMNS.iter().chain(&EXTRA[..style.extras]).copied().collect();
    text.push_str(&names.join(&delimiter.to_string()));
    text.push_str(line_end);
    let data = style.encoding.encode(&text).expect("ASCII is in every encoding").len();
    let rows = dice.between(10, 60);
    for row in 1..=rows {
        let mut fields = fields(dice, style, row);
        // Rows that break a rule are to stay what they are, too; as few as keep the file recognisable.
        if row > 5 && dice.one_in(25) {
            spoil(dice, &mut fields, style);
        }
        text.push_str(&fields.join(&delimiter.to_string()));
        if style.has_trailing_delimiter {
            text.push(delimiter);
        }
        if row < rows || !dice.one_in(6) {
            text.push_str(line_end);
        }
        if dice.one_in(80) {
            text.push_str(line_end);
        }
    }
    let bytes = style.encoding.encode(&text).expect("the texts are those of the encoding");
    let escape = style.has_escape.then_some(b'\\');
    let delimiter = u8::try_from(delimiter).expect("ASCII");
    File { bytes, data, is_json: false, delimiter, escape, columns: names.len(), flags }
}

/// The fields of a valid row, as they stand in the file.
fn fields(dice: &mut Dice, style: &Style, row: usize) -> Vec<String> {
    let merchant = dice.pick(&["Shop", "", "\\N", "NULL", "EDF"]);
    let side = dice.pick(&["debit", "credit"]);
    let (amount, date) = (amount(dice, style), date(dice, style.dates));
    let mut fields = vec![
        quoted(dice, style, &format!("T{row:04}"), false),
        description(dice, style, row),
        quoted(dice, style, &amount, true),
        quoted(dice, style, &date, true),
        // What stands for nothing does so without quotes alone.
        if merchant.len() < 5 && merchant != "Shop" {
            merchant.to_owned()
        } else {
            quoted(dice, style, merchant, false)
        },
        quoted(dice, style, "card_payment", false),
        quoted(dice, style, side, false),
    ];
    for _ in 0..style.extras {
        let value = dice.pick(&["FR", "", "a b", "x"]);
        fields.push(quoted(dice, style, value, false));
    }
    if style.is_padded {
        for field in &mut fields[1..] {
            field.insert(0, ' ');
        }
    }
    fields
}

fn description(dice: &mut Dice, style: &Style, row: usize) -> String {
    let text = if dice.one_in(3) { dice.pick(&style.texts) } else { dice.pick(&TEXTS) };
    let mut text = format!("{text} {row}");
    match dice.below(12) {
        0 => write!(text, "{} and more", style.delimiter).expect("a string"),
        1 => text.push_str(", \"as agreed\", ok"),
        2 => text.push_str(" 5\" pipe"),
        3 | 4 if style.has_lines_in_fields => write!(text, "{}second line", style.line_end).expect("a string"),
        5 if style.has_lines_in_fields => {
            let end = style.line_end;
            write!(text, "{end}{end}third \"line\"{end}").expect("a string");
        }
        _ => {}
    }
    quoted(dice, style, &text, false)
}

/// A value as the style writes it.
fn quoted(dice: &mut Dice, style: &Style, value: &str, is_number: bool) -> String {
    let must = value.contains([style.delimiter, '\n', '\r']) || value.starts_with(['"', ' ']);
    let does = match style.quoting {
        Quoting::All => true,
        Quoting::Texts => !is_number,
        // A quote inside of a field without quotes is text.
        Quoting::Minimal => value.contains('"') && dice.one_in(2),
    };
    if !must && !does {
        return value.to_owned();
    }
    let doubled = if style.has_escape { value.replace('"', "\\\"") } else { value.replace('"', "\"\"") };
    format!("\"{doubled}\"")
}

fn amount(dice: &mut Dice, style: &Style) -> String {
    let (mark, group) = if style.has_comma_mark { (',', '.') } else { ('.', ',') };
    let (units, cents) = (dice.below(90_000), dice.below(100));
    let sign = dice.pick(&["-", "-", ""]);
    match (style.is_grouped, units / 1000) {
        (true, thousands @ 1..) => format!("{sign}{thousands}{group}{:03}{mark}{cents:02}", units % 1000),
        _ => format!("{sign}{units}{mark}{cents:02}"),
    }
}

fn date(dice: &mut Dice, dates: Dates) -> String {
    // Most days are beyond the twelfth, so that no one row decides what is day and what is month.
    let (day, month) = (if dice.one_in(4) { dice.between(1, 12) } else { dice.between(13, 28) }, dice.between(1, 12));
    let (hour, minute, second) = (dice.below(24), dice.below(60), dice.below(60));
    match dates {
        Dates::Iso => format!("2026-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"),
        Dates::IsoZone => format!("2026-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"),
        Dates::DayFirst => format!("{day:02}/{month:02}/2026 {hour:02}:{minute:02}:{second:02}"),
        Dates::MonthFirst => format!("{month:02}/{day:02}/2026 {hour:02}:{minute:02}"),
        Dates::Dots => format!("{day:02}.{month:02}.2026"),
        Dates::Compact => format!("2026{month:02}{day:02}"),
        Dates::Slashes => format!("2026/{month:02}/{day:02} {hour:02}:{minute:02}:{second:02}"),
    }
}

/// Breaks a row, as people and programs do.
fn spoil(dice: &mut Dice, fields: &mut Vec<String>, style: &Style) {
    match dice.below(5) {
        0 => drop(fields.pop()),
        1 => fields[6] = String::new(),
        2 => fields.push("one too many".to_owned()),
        3 => fields[1] = String::from("\"ACME Ltd"),
        _ => fields[1] = format!("\"ACME\" Ltd{}", if style.is_padded { " " } else { "" }),
    }
}

fn json(dice: &mut Dice, encoding: Encoding, texts: [&'static str; 4], flags: Vec<&'static str>) -> File {
    let (space, line_end) = (dice.pick(&["", " "]), dice.pick(&["\n", "\n", "\r\n"]));
    let (is_text, per_line) = (dice.one_in(3), if dice.one_in(3) { 3 } else { 1 });
    let separator = dice.pick(&["", " "]);
    let dates = dice.pick(&[Dates::Iso, Dates::IsoZone, Dates::DayFirst]);
    let mut text = String::new();
    let rows = dice.between(10, 60);
    for row in 1..=rows {
        let description = if dice.one_in(3) { dice.pick(&texts) } else { dice.pick(&TEXTS) };
        let more = dice.pick(&["", "", "", "\\n2nd", " \\\"so\\\"", " \\u00e9", " \\\\"]);
        let (units, cents) = (dice.below(90_000), dice.below(100));
        let amount = if is_text { format!("\"-{units}.{cents:02}\"") } else { format!("-{units}.{cents:02}") };
        let at = date(dice, dates);
        let side = dice.pick(&["debit", "debit", "credit"]);
        let merchant = dice.pick(&["null", "\"Shop\"", "\"EDF\""]);
        // Some lack what they need.
        let side = if row > 5 && dice.one_in(25) { "" } else { side };
        write!(
            text,
            "{{\"id\":{space}\"T{row:04}\",{space}\"description\":{space}\"{description} {row}{more}\",{space}\"amount\":{space}{amount},{space}\"timestamp\":{space}\"{at}\",{space}\"merchant\":{space}{merchant},{space}\"operation_type\":{space}\"card\",{space}\"side\":{space}\"{side}\",{space}\"country\":{space}\"FR\"}}"
        )
        .expect("a string");
        text.push_str(if row % per_line == 0 || row == rows { line_end } else { separator });
    }
    let bytes = encoding.encode(&text).expect("the texts are those of the encoding");
    File { bytes, data: 0, is_json: true, delimiter: b',', escape: None, columns: 8, flags }
}
