//! The text encoding: from a byte order mark, otherwise UTF-8, which no other text resembles by chance. Another text is
//! rejected with its likeliest reading. A broken character among good ones costs only its row.

use assay_transaction::{DecidedBy, Decision, DecisionSubject, Encoding};
use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};

use super::{UndecidedFormat, format_count, is_more_than_slips, nearly_all};
use crate::FormatOptions;
use crate::decode::transcode::bom_encoding;

/// Bytes searched for zeros.
const ZERO_SEARCH_BYTES: usize = 4_096;
/// ISO-2022-JP escapes to Japanese characters: double-byte in both versions of the standard, and half-width.
const JAPANESE: [&[u8]; 3] = [b"\x1b$B", b"\x1b$@", b"\x1b(I"];
/// Most bytes of a character in any encoding.
const LONGEST_CHARACTER: usize = 4;

/// The encoding from the options or a byte order mark. A mark overrides a setting, as nothing else begins like that.
/// Resumed runs use their frozen encoding.
pub(crate) fn declared(first: &[u8], options: &FormatOptions) -> Result<Option<Encoding>, UndecidedFormat> {
    if options.frozen.is_some() {
        return Ok(options.encoding);
    }
    Ok(byte_order_mark(first)?.or(options.encoding))
}

/// The encoding of a byte order mark.
fn byte_order_mark(first: &[u8]) -> Result<Option<Encoding>, UndecidedFormat> {
    match first {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Err(UndecidedFormat::Utf32),
        [0xef, 0xbb, 0xbf, ..] => Ok(Some(Encoding::UTF_8)),
        _ => Ok(bom_encoding(first)),
    }
}

/// Rejects text that is not UTF-8 but would be read as such: UTF-16 or UTF-32 without a mark, or ISO-2022-JP, which
/// escapes in ASCII.
pub(crate) fn reject_unmarked(head: &[u8], encoding: Option<Encoding>) -> Result<(), UndecidedFormat> {
    if encoding.is_none() && JAPANESE.iter().any(|escape| memchr::memmem::find(head, escape).is_some()) {
        return Err(UndecidedFormat::Iso2022Jp);
    }
    let looked_at = &head[..head.len().min(ZERO_SEARCH_BYTES)];
    reject_utf32(looked_at)?;
    reject_utf16(looked_at)
}

/// Three of four bytes are zero, except for other scripts.
fn reject_utf32(looked_at: &[u8]) -> Result<(), UndecidedFormat> {
    let zeros = |first: usize| looked_at.iter().skip(first).step_by(4).filter(|byte| **byte == 0).count();
    let quads = looked_at.len() / 4;
    let is_of = |[first, second, third, last]: [usize; 4]| {
        first == 0 && second * 2 > quads && nearly_all(third, quads) && nearly_all(last, quads)
    };
    let counted = [zeros(0), zeros(1), zeros(2), zeros(3)];
    let [first, second, third, last] = counted;
    if is_of(counted) || is_of([last, third, second, first]) { Err(UndecidedFormat::Utf32) } else { Ok(()) }
}

fn reject_utf16(looked_at: &[u8]) -> Result<(), UndecidedFormat> {
    let zeros = |first: usize| looked_at.iter().skip(first).step_by(2).filter(|byte| **byte == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    let pairs = looked_at.len() / 2;
    // Characters of other scripts contain no zero, but delimiters and digits do.
    let is_of = |zeros: usize, others: usize| zeros * 3 > pairs && others * 20 <= zeros;
    if is_of(odd, even) {
        return Err(UndecidedFormat::Utf16 { name: "UTF-16LE", label: "utf-16le" });
    }
    if is_of(even, odd) {
        return Err(UndecidedFormat::Utf16 { name: "UTF-16BE", label: "utf-16be" });
    }
    Ok(())
}

/// Checks that lines are UTF-8, except for slips.
pub(crate) fn check_utf8<'a>(
    lines: impl Iterator<Item = (u64, &'a [u8])> + Clone,
) -> Result<Utf8Lines, UndecidedFormat> {
    let mut seen = Utf8Lines::default();
    let mut first = None;
    for (number, line) in lines.clone() {
        seen.all += 1;
        if line.is_ascii() {
            continue;
        }
        seen.beyond_ascii += 1;
        if std::str::from_utf8(line).is_err() {
            seen.broken += 1;
            first = first.or(Some((number, line)));
        }
    }
    match first {
        Some((number, line)) if seen.is_other() => Err(not_utf8(number, line, lines.map(|(_, line)| line))),
        _ => Ok(seen),
    }
}

/// Counts of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Utf8Lines {
    all: usize,
    beyond_ascii: usize,
    broken: usize,
}

impl Utf8Lines {
    /// Accepted slips: one broken line among others, one in a thousand, or one in ten lines with non-ASCII characters,
    /// as UTF-8 in nine of ten is no coincidence.
    fn is_other(self) -> bool {
        let are_slips = self.broken < self.all && (self.broken == 1 || !is_more_than_slips(self.broken, self.all));
        !are_slips && !nearly_all(self.beyond_ascii - self.broken, self.beyond_ascii)
    }

    /// The decision they support.
    pub(crate) fn decision(self) -> Decision {
        let good = self.beyond_ascii - self.broken;
        let of = format_count(self.beyond_ascii);
        let (by, evidence) = if good == 0 {
            (DecidedBy::Default, "the sample is ASCII".to_owned())
        } else {
            let evidence = format!("{} of {of} lines with non-ASCII characters are valid", format_count(good));
            (DecidedBy::Recognised, evidence)
        };
        Decision { what: DecisionSubject::Encoding, value: Encoding::UTF_8.name().to_owned(), by, evidence }
    }
}

/// Shows a line's bytes in the likeliest encodings.
pub(crate) fn not_utf8<'a>(line: u64, bytes: &[u8], all: impl Iterator<Item = &'a [u8]>) -> UndecidedFormat {
    let broken_character = broken_character(bytes);
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    for line in all.filter(|line| std::str::from_utf8(line).is_err()) {
        detector.feed(line, false);
        detector.feed(b"\n", false);
    }
    detector.feed(b"", true);
    let guess = Encoding::of(detector.guess(None, Utf8Detection::Deny).name());
    let mut likely: Vec<Encoding> = guess.into_iter().collect();
    if !likely.contains(&Encoding::WINDOWS_1252) {
        likely.push(Encoding::WINDOWS_1252);
    }
    // One character is as telling as a word, which would be row content.
    let character = |encoding: &Encoding| {
        let mut starts = (1..=broken_character.len())
            .filter_map(|length| Some((length, encoding.decode(&broken_character[..length])?)));
        starts.find(|(_, text)| text.chars().count() == 1).map(|(length, text)| (length, *encoding, text.into_owned()))
    };
    let characters: Vec<_> = likely.iter().filter_map(character).collect();
    let shown = characters.iter().map(|(length, ..)| *length).max().unwrap_or(1).min(broken_character.len());
    let readings = characters.iter().map(|(_, encoding, text)| {
        format!("in {} it is {}", encoding.name().to_ascii_lowercase(), assay_transaction::quoted(text))
    });
    let (readings, example) = (readings.collect(), format!("`{}`", broken_character[..shown].escape_ascii()));
    UndecidedFormat::NotUtf8 { line, example, readings }
}

/// At most one character of a line that is not UTF-8, in any encoding.
fn broken_character(line: &[u8]) -> &[u8] {
    let broken = std::str::from_utf8(line).err().map_or(0, |error| error.valid_up_to());
    // Double-byte characters may look like UTF-8 at first.
    let start = line[..broken].iter().rposition(u8::is_ascii).map_or(0, |place| place + 1);
    &line[start..line.len().min(start + LONGEST_CHARACTER)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(lines: &[&[u8]]) -> Result<Utf8Lines, String> {
        check_utf8(lines.iter().copied().zip(2_u64..).map(|(line, number)| (number, line)))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_byte_order_mark_overrides_the_setting() {
        let cases: [(&[u8], Option<Encoding>); 5] = [
            (b"", None),
            (b"id;", None),
            (b"\xff\xfei\0", Some(Encoding::UTF_16LE)),
            (b"\xfe\xff\0i", Some(Encoding::UTF_16BE)),
            (b"\xef\xbb\xbfid", Some(Encoding::UTF_8)),
        ];
        let set = FormatOptions { encoding: Some(Encoding::WINDOWS_1252), ..FormatOptions::default() };
        for (first, expected) in cases {
            assert_eq!(declared(first, &FormatOptions::default()), Ok(expected));
            assert_eq!(declared(first, &set), Ok(expected.or(Some(Encoding::WINDOWS_1252))));
        }
        assert_eq!(declared(b"\xff\xfe\0\0i\0\0\0", &set), Err(UndecidedFormat::Utf32));
    }

    #[test]
    fn utf16_and_utf32_are_detected_without_a_mark() {
        for text in ["id;amount\n1;2\n", "编号,金额,时间\n1,-2.50,2024-03-15 10:00:00\n", "\u{17b}abka;1"] {
            for (encoding, label) in [(Encoding::UTF_16LE, "utf-16le"), (Encoding::UTF_16BE, "utf-16be")] {
                let error = reject_unmarked(&encoding.encode(text).unwrap(), None).unwrap_err().to_string();
                assert!(error.ends_with(&format!("set ENCODING={label}")), "{error}");
            }
            let four =
                |to_bytes: fn(u32) -> [u8; 4]| text.chars().flat_map(|it| to_bytes(it.into())).collect::<Vec<_>>();
            for bytes in [four(u32::to_le_bytes), four(u32::to_be_bytes)] {
                assert_eq!(reject_unmarked(&bytes, None), Err(UndecidedFormat::Utf32), "{text}");
            }
        }
        for bytes in ["id;amount\n".as_bytes(), b"a\0b;c\n1;2;3;4", b"", b"\0\0\0\0", "编号".as_bytes()] {
            assert_eq!(reject_unmarked(bytes, None), Ok(()), "{bytes:?}");
        }
    }

    #[test]
    fn iso_2022_jp_is_rejected() {
        let bytes = Encoding::of("iso-2022-jp").unwrap().encode("id;名\n1;コンビニ\n").unwrap();
        assert!(bytes.is_ascii());
        let error = reject_unmarked(&bytes, None).unwrap_err().to_string();
        assert!(error.contains("ENCODING=iso-2022-jp"), "{error}");
        assert_eq!(reject_unmarked(&bytes, Some(Encoding::UTF_8)), Ok(()));
        assert_eq!(reject_unmarked(b"\x1b[1mbold\x1b[0m;\x1b(B", None), Ok(()));
    }

    #[test]
    fn another_encoding_is_rejected_with_its_likeliest_name() {
        let texts = [
            ("windows-1250", "Żabka zakupy, Łódź, źródło świeżości", "`Ż`"),
            ("windows-1252", "Café à la crème brûlée – déjà vu", "`é`"),
            ("windows-1251", "Продукты и хозяйственные товары", "`П`"),
            ("gbk", "支付宝商店消费记录", "`支`"),
            ("shift_jis", "カード支払いコンビニ", "`カ`"),
        ];
        for (label, text, shown) in texts {
            let bytes = Encoding::of(label).unwrap().encode(text).unwrap();
            let error = refused(&[&bytes, &bytes, b"ascii"]).unwrap_err();
            assert!(error.contains(&format!("in {label} it is {shown}")), "{error}");
            assert!(error.contains("on line 2") && error.contains("set ENCODING to"), "{error}");
        }
    }

    #[test]
    fn a_few_broken_lines_are_accepted() {
        let mut lines: Vec<&[u8]> = vec!["Café".as_bytes(); 20];
        lines[3] = b"Caf\xe9";
        lines[4] = b"cut \xe2\x82";
        assert_eq!(refused(&lines), Ok(Utf8Lines { all: 20, beyond_ascii: 20, broken: 2 }));
        lines[5] = b"Caf\xe9";
        assert!(refused(&lines).is_err());
        let mut lines: Vec<&[u8]> = vec![b"Cafe"; 20];
        lines[3] = b"Caf\xe9";
        assert!(refused(&lines).is_ok());
        lines[4] = b"Caf\xe9";
        assert!(refused(&lines).is_err());
        assert!(refused(&[b"Caf\xe9"]).is_err());
        assert_eq!(refused(&[b"a", b"b"]).unwrap().decision().by, DecidedBy::Default);
        assert_eq!(refused(&["é".as_bytes()]).unwrap().decision().by, DecidedBy::Recognised);
    }
}
