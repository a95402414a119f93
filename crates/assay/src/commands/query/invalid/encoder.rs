//! Lines of text in the encoding of their source. Text that was converted to UTF-8 when it was read is converted back.

use assay_transaction::{Decision, DecisionSubject, Encoding, RunSettings};

/// Encodes lines for the source of a run.
pub(super) struct LineEncoder {
    encoding: Encoding,
    /// Whether the stored rows are UTF-8, and the source is not.
    is_transcoded: bool,
    /// Whether the encoding is known only from a byte order mark.
    is_marked: bool,
    /// Bytes that are invalid in the encoding, to stand for invalid bytes of the source.
    malformed: Vec<u8>,
}

impl LineEncoder {
    pub(super) fn for_run(settings: &RunSettings) -> Self {
        let encoding = settings.dialect.encoding;
        let malformed = if encoding == Encoding::UTF_16LE {
            // Half of a surrogate pair.
            vec![0x00, 0xd8]
        } else if encoding == Encoding::UTF_16BE {
            vec![0xd8, 0x00]
        } else {
            (0x80..=0xff).rev().find(|byte| encoding.decode(&[*byte]).is_none()).into_iter().collect()
        };
        let is_mark =
            |it: &Decision| it.what == DecisionSubject::Encoding && it.evidence.starts_with(Decision::BY_MARK);
        let is_marked = settings.decisions.iter().any(is_mark);
        Self { encoding, is_transcoded: settings.is_transcoded(), is_marked, malformed }
    }

    /// The byte order mark, if the encoding needs one or is known only from the mark of the source.
    pub(super) fn byte_order_mark(&self) -> Vec<u8> {
        let needs_one = self.is_marked || [Encoding::UTF_16LE, Encoding::UTF_16BE].contains(&self.encoding);
        if needs_one { self.encoding.encode("\u{feff}").unwrap_or_default() } else { Vec::new() }
    }

    /// Encodes a line of text. None if the encoding lacks one of its characters.
    pub(super) fn text(&self, text: &str) -> Option<Vec<u8>> {
        self.encoding.encode(&format!("{text}\n"))
    }

    /// Encodes the stored bytes of a row, as [`LineEncoder::text`] does.
    pub(super) fn row(&self, raw: &[u8]) -> Option<Vec<u8>> {
        if !self.is_transcoded {
            return Some([raw, b"\n"].concat());
        }
        let mut line = Vec::with_capacity(raw.len() + 2);
        for chunk in raw.utf8_chunks() {
            line.extend(self.encoding.encode(chunk.valid())?);
            for _ in chunk.invalid() {
                line.extend_from_slice(&self.malformed);
            }
        }
        line.extend(self.encoding.encode("\n")?);
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use assay_transaction::{DecidedBy, Dialect, Format};

    use super::*;

    fn encoder(label: &str, format: Format) -> LineEncoder {
        let example = RunSettings::example();
        let dialect = Dialect { encoding: Encoding::of(label).unwrap(), ..example.dialect };
        LineEncoder::for_run(&RunSettings { dialect, format, ..example })
    }

    #[test]
    fn rows_are_written_as_they_were_read() {
        for (label, format, row, expected) in [
            ("utf-8", Format::Csv, &b"caf\xe9"[..], &b"caf\xe9\n"[..]),
            ("windows-1252", Format::Csv, b"caf\xc3\xa9", b"caf\xc3\xa9\n"),
            ("windows-1252", Format::JsonLines, b"caf\xc3\xa9", b"caf\xe9\n"),
            ("gbk", Format::Csv, "1;商".as_bytes(), b"1;\xc9\xcc\n"),
            ("gbk", Format::Csv, b"1;\xff;x", b"1;\xff;x\n"),
            ("utf-16le", Format::Csv, b"a\xff", b"a\0\0\xd8\n\0"),
            ("utf-16be", Format::Csv, b"a\xff", b"\0a\xd8\0\0\n"),
        ] {
            assert_eq!(encoder(label, format).row(row).unwrap(), expected, "{label}");
        }
        assert_eq!(encoder("gbk", Format::Csv).row("\u{e5e5}".as_bytes()), None);
    }

    #[test]
    fn utf16_begins_with_its_byte_order_mark() {
        assert_eq!(encoder("utf-16le", Format::Csv).byte_order_mark(), b"\xff\xfe");
        assert_eq!(encoder("utf-16be", Format::Csv).byte_order_mark(), b"\xfe\xff");
        assert!(
            encoder("gbk", Format::Csv).byte_order_mark().is_empty()
                && encoder("utf-8", Format::Csv).byte_order_mark().is_empty()
        );
        assert_eq!(encoder("utf-16be", Format::Csv).text("a").unwrap(), b"\0a\0\n");
        // Without the mark, the same ENCODING would read it differently, which the mark of the source overrode.
        let evidence = format!("{}, whatever is set: windows-1252", Decision::BY_MARK);
        let by_mark =
            Decision { what: DecisionSubject::Encoding, value: "UTF-8".into(), by: DecidedBy::Recognised, evidence };
        let settings = RunSettings { decisions: vec![by_mark], ..RunSettings::example() };
        assert_eq!(LineEncoder::for_run(&settings).byte_order_mark(), b"\xef\xbb\xbf");
    }
}
