//! Detects unsupported formats by content: archives, compressions and documents are rejected by name, with advice.
//!
//! A signature is bytes that no text begins with, or enough of a text: a header `<DATE>,<TIME>` is not HTML, and `BZh`
//! alone is not bzip2.

use assay_transaction::Compression;

use crate::SourceError;

/// Advice for other formats.
const EXPORT: &str = "export it as CSV, JSON Lines or Parquet";
/// Advice for other compressions.
const UNPACK: &str = "unpack it first; only gzip, zstd and a zip of one file are unpacked automatically";
/// Advice for nested compression.
const UNPACK_ONCE: &str = "unpack it once; only one compression is unpacked automatically";
/// Advice for archives.
const TAKE_OUT: &str = "unpack it, and load the files in it";
const DECRYPT: &str = "decrypt it first";

/// Bytes of a text searched for elements.
const LOOKED_AT: usize = 16 * 1024;

/// An unsupported format, with its article, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OtherFormat {
    what: &'static str,
    remedy: &'static str,
}

impl OtherFormat {
    /// The format that begins with these bytes; none if they may be rows. Text formats are only detected if no format
    /// is set.
    pub(crate) fn detect(head: &[u8], is_format_given: bool) -> Option<Self> {
        let is_magic = |(magic, certainty, _): &&Signature| {
            head.starts_with(magic) && (*certainty == Certainty::Sure || is_binary(head))
        };
        if let Some((_, _, format)) = SIGNATURES.iter().find(is_magic) {
            return Some(*format);
        }
        if is_bzip2(head) {
            return Some(Self { what: "bzip2 data", remedy: UNPACK });
        }
        if is_tar(head) {
            return Some(Self { what: "a tar archive", remedy: TAKE_OUT });
        }
        if is_format_given { None } else { Self::detect_text(head) }
    }

    fn detect_text(head: &[u8]) -> Option<Self> {
        let export = |what| Some(Self { what, remedy: EXPORT });
        let text = head[..head.len().min(LOOKED_AT)].trim_ascii_start();
        if let Some((_, format)) = TEXT_SIGNATURES.iter().find(|(start, _)| starts_with(text, start)) {
            return Some(*format);
        }
        if starts_with(text, b"MIME-Version:") && contains(text, b"multipart/related") {
            return export("a web archive, as Excel saves a page (MHTML)");
        }
        let element = first_element(text)?;
        let is_excel = contains(text, b"urn:schemas-microsoft-com:office:excel");
        if HTML_ELEMENTS.iter().any(|name| element.eq_ignore_ascii_case(name)) {
            return export(if is_excel { "an HTML page, as Excel saves it under .xls" } else { "an HTML page" });
        }
        // A header of names in angle brackets has no closing elements, and delimiters after the names.
        if !contains(text, b"</") && !starts_with(text, b"<?xml") {
            return None;
        }
        match element {
            b"OFX" => export("an OFX statement (XML)"),
            b"stata_dta" => export("a Stata file"),
            _ if contains(text, b"camt.05") => export("a camt statement of ISO 20022 (XML)"),
            _ if contains(text, b"pain.00") => export("a pain message of ISO 20022 (XML)"),
            _ if contains(text, b"urn:schemas-microsoft-com:office:spreadsheet") => {
                export("an XML spreadsheet of Excel")
            }
            _ => export("an XML document"),
        }
    }

    /// The error for this format, and the compression around it.
    pub(crate) fn error(self, packed_with: Compression) -> SourceError {
        let what = match packed_with {
            Compression::None => self.what.to_owned(),
            packed => format!("{} inside of {}", self.what, packed.name()),
        };
        SourceError::OtherFormat { what, remedy: self.remedy }
    }
}

/// How certain a signature is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Certainty {
    /// No text begins like this.
    Sure,
    /// A text may begin like this: certain only if binary bytes follow.
    IfBinary,
}

/// First bytes, certainty, and format.
type Signature = (&'static [u8], Certainty, OtherFormat);

const fn signature(magic: &'static [u8], what: &'static str, remedy: &'static str) -> Signature {
    (magic, Certainty::Sure, OtherFormat { what, remedy })
}

const fn signature_if_binary(magic: &'static [u8], what: &'static str, remedy: &'static str) -> Signature {
    (magic, Certainty::IfBinary, OtherFormat { what, remedy })
}

/// Signatures. Supported compressions are included, as they only occur here inside another one.
const SIGNATURES: [Signature; 44] = [
    signature(b"\x1f\x8b", "gzip data", UNPACK_ONCE),
    signature(b"\x28\xb5\x2f\xfd", "zstd data", UNPACK_ONCE),
    signature(b"PK\x03\x04", "a zip archive", UNPACK_ONCE),
    signature(b"PK\x05\x06", "an empty zip archive", "send it with a file in it"),
    signature(b"PK\x07\x08", "a zip archive in several parts", UNPACK),
    signature(b"\xfd7zXZ\0", "xz data", UNPACK),
    signature(b"7z\xbc\xaf\x27\x1c", "a 7z archive", TAKE_OUT),
    signature(b"Rar!\x1a\x07", "a RAR archive", TAKE_OUT),
    signature(b"\x04\x22\x4d\x18", "lz4 data", UNPACK),
    signature(b"\x02\x21\x4c\x18", "lz4 data", UNPACK),
    signature(b"\x5d\0\0", "lzma data", UNPACK),
    signature(b"LZIP\x01", "lzip data", UNPACK),
    signature(b"\xff\x06\0\0sNaPpY", "snappy data", UNPACK),
    signature(b"\x1f\x9d", "data of compress (.Z)", UNPACK),
    signature(b"MSCF\0\0\0\0", "a cabinet archive", TAKE_OUT),
    signature(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook (.xls, or another file of old Office)", EXPORT),
    signature(b"\x09\x08\x08\0", "an Excel workbook of old (.xls)", EXPORT),
    signature(b"\x09\x08\x10\0", "an Excel workbook of old (.xls)", EXPORT),
    signature(b"\x09\x04\x06\0", "an Excel workbook of old (.xls)", EXPORT),
    signature(b"\x09\x02\x06\0", "an Excel workbook of old (.xls)", EXPORT),
    signature(b"Obj\x01", "an Avro file", EXPORT),
    signature_if_binary(b"PARE", "an encrypted Parquet file", DECRYPT),
    signature(b"\0\x01\0\0Standard Jet DB", "an Access database", EXPORT),
    signature(b"\0\x01\0\0Standard ACE DB", "an Access database", EXPORT),
    signature_if_binary(b"ORC", "an ORC file", EXPORT),
    signature(b"ARROW1\0\0", "an Arrow file (Feather)", EXPORT),
    signature(b"\xff\xff\xff\xff", "an Arrow stream", EXPORT),
    signature_if_binary(b"FEA1", "a Feather file", EXPORT),
    signature(b"SQLite format 3\0", "an SQLite database", EXPORT),
    signature(b"%PDF-", "a PDF document", EXPORT),
    signature(b"{\\rtf", "an RTF document", EXPORT),
    signature(b"\x89HDF\r\n\x1a\n", "an HDF5 file", EXPORT),
    signature(b"\x93NUMPY", "a NumPy file", EXPORT),
    signature(b"\x80\x04\x95", "a Python pickle", EXPORT),
    signature(b"\x80\x05\x95", "a Python pickle", EXPORT),
    signature(b"$FL2@(#)", "an SPSS file", EXPORT),
    signature(b"\0\0\0\0\0\0\0\0\0\0\0\0\xc2\xea\x81\x60", "a SAS file", EXPORT),
    signature(b"\x89PNG\r\n\x1a\n", "a PNG picture", EXPORT),
    signature(b"\xff\xd8\xff", "a JPEG picture", EXPORT),
    signature(b"-----BEGIN PGP MESSAGE-----", "an encrypted PGP message", DECRYPT),
    signature(b"\x85\x01", "an encrypted PGP message", DECRYPT),
    signature(b"\x85\x02", "an encrypted PGP message", DECRYPT),
    signature(b"\x85\x04", "an encrypted PGP message", DECRYPT),
    signature(b"age-encryption.org/v1\n", "an encrypted file of age", DECRYPT),
];

/// First bytes of text formats of banks, case-insensitive.
const TEXT_SIGNATURES: [(&[u8], OtherFormat); 7] = [
    (b"OFXHEADER:", OtherFormat { what: "an OFX statement", remedy: EXPORT }),
    (b"!Type:", OtherFormat { what: "a QIF file", remedy: EXPORT }),
    (b"!Account", OtherFormat { what: "a QIF file", remedy: EXPORT }),
    (b"{1:F01", OtherFormat { what: "a SWIFT message (MT940)", remedy: EXPORT }),
    (b":20:", OtherFormat { what: "an MT940 statement", remedy: EXPORT }),
    (b"UNA:+", OtherFormat { what: "an EDIFACT message", remedy: EXPORT }),
    (b"UNB+", OtherFormat { what: "an EDIFACT message", remedy: EXPORT }),
];

/// Elements that begin an HTML page.
const HTML_ELEMENTS: [&[u8]; 15] = [
    b"!doctype",
    b"html",
    b"head",
    b"body",
    b"table",
    b"meta",
    b"title",
    b"style",
    b"script",
    b"div",
    b"center",
    b"font",
    b"p",
    b"span",
    b"link",
];

/// Size of a header in a tar archive.
const TAR_BLOCK: usize = 512;

/// The first header has the magic of tar, or a valid checksum, as in old archives.
fn is_tar(head: &[u8]) -> bool {
    let Some(block) = head.get(..TAR_BLOCK) else { return false };
    let sum: u64 =
        block.iter().enumerate().map(|(at, byte)| u64::from(if (148..156).contains(&at) { b' ' } else { *byte })).sum();
    let stated = std::str::from_utf8(&block[148..156]).ok();
    let stated = stated.and_then(|stated| u64::from_str_radix(stated.trim_matches(['\0', ' ']), 8).ok());
    &block[257..262] == b"ustar" || (stated == Some(sum) && block.contains(&0))
}

/// Magic, level, and the start of a block or the end of the data.
fn is_bzip2(head: &[u8]) -> bool {
    let Some((start, rest)) = head.split_at_checked(4) else { return false };
    start.starts_with(b"BZh")
        && matches!(start[3], b'1'..=b'9')
        && (rest.starts_with(b"1AY&SY") || rest.starts_with(b"\x17\x72\x45\x38\x50\x90"))
}

/// Whether the first bytes include some that no text has.
fn is_binary(head: &[u8]) -> bool {
    let is_of_no_text =
        |byte: &u8| *byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c' | b'\x1b');
    head[..head.len().min(1024)].iter().any(is_of_no_text)
}

/// The name of the first element of a page or document; a document type declaration counts.
fn first_element(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        text = text.trim_ascii_start();
        let end: &[u8] = match text {
            [b'<', b'?', ..] => b"?>",
            [b'<', b'!', b'-', b'-', ..] => b"-->",
            _ => break,
        };
        text = &text[memchr::memmem::find(text, end)? + end.len()..];
    }
    let rest = text.strip_prefix(b"<")?;
    let length = rest.iter().position(|byte| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/'))?;
    let (name, rest) = rest.split_at(length);
    let is_name = name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!_-.:".contains(byte) || !byte.is_ascii());
    // In a header of names in angle brackets, a delimiter follows.
    let is_field = matches!(rest, [b'>', b',' | b';' | b'\t' | b'|', ..]);
    (is_name && !name.is_empty() && !is_field).then(|| name.rsplit(|byte| *byte == b':').next().unwrap_or(name))
}

fn starts_with(text: &[u8], start: &[u8]) -> bool {
    text.get(..start.len()).is_some_and(|text| text.eq_ignore_ascii_case(start))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_transaction::Exit;

    fn detected(head: &[u8]) -> Option<&'static str> {
        OtherFormat::detect(head, false).map(|format| format.what)
    }

    /// The first block of an archive with one file.
    fn tar(is_old: bool) -> Vec<u8> {
        let mut block = vec![0; TAR_BLOCK];
        block[..5].copy_from_slice(b"a.csv");
        block[100..107].copy_from_slice(b"0000644");
        block[124..135].copy_from_slice(b"00000000012");
        block[148..156].fill(b' ');
        if !is_old {
            block[257..262].copy_from_slice(b"ustar");
        }
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }

    #[test]
    fn unsupported_formats_are_detected_by_content() {
        let cases: [(&[u8], &str); 38] = [
            (&tar(false), "a tar archive"),
            (&tar(true), "a tar archive"),
            (b"PK\x05\x06\0\0\0\0", "an empty zip archive"),
            (b"\x1f\x8b\x08\0", "gzip data"),
            (b"BZh91AY&SY\x12", "bzip2 data"),
            (b"BZh9\x17\x72\x45\x38\x50\x90", "bzip2 data"),
            (b"\xfd7zXZ\0\0\x04", "xz data"),
            (b"7z\xbc\xaf\x27\x1c\0\x04", "a 7z archive"),
            (b"Rar!\x1a\x07\x01\0", "a RAR archive"),
            (b"\x04\x22\x4d\x18\x64", "lz4 data"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0", "an Excel workbook (.xls, or another file of old Office)"),
            (b"Obj\x01\x04\x14avro.codec", "an Avro file"),
            (b"ORC\x0a\x03\0\0\x12", "an ORC file"),
            (b"ARROW1\0\0\xff\xff\xff\xff", "an Arrow file (Feather)"),
            (b"\xff\xff\xff\xff\x10\0\0\0", "an Arrow stream"),
            (b"%PDF-1.7\n%\xe2\xe3", "a PDF document"),
            (b"SQLite format 3\0\x10\0", "an SQLite database"),
            (b"<html><body><table><tr><td>id</td>", "an HTML page"),
            (b"\r\n \t<!DOCTYPE html>\n<html>", "an HTML page"),
            (b"<!-- saved from url=(0014)about:internet -->\n<HTML>", "an HTML page"),
            (b"<table border=\"1\"><tr><th>id</th>", "an HTML page"),
            (b"<TABLE>\n<TR><TD>id;amount</TD></TR>", "an HTML page"),
            (b"<meta http-equiv=\"Content-Type\">", "an HTML page"),
            (b"<?xml version=\"1.0\"?>\n<html xmlns=\"http://www.w3.org/1999/xhtml\">", "an HTML page"),
            (
                b"<html xmlns:o=\"urn:schemas-microsoft-com:office:office\" xmlns:x=\"urn:schemas-microsoft-com:office:excel\">",
                "an HTML page, as Excel saves it under .xls",
            ),
            (b"MIME-Version: 1.0\nContent-Type: multipart/related;", "a web archive, as Excel saves a page (MHTML)"),
            (b"<?xml version=\"1.0\"?><rows><row/></rows>", "an XML document"),
            (b"<rows>\n<row id=\"1\"></row></rows>", "an XML document"),
            (
                b"<?xml version=\"1.0\"?>\n<Document xmlns=\"urn:iso:std:iso:20022:tech:xsd:camt.053.001.02\">",
                "a camt statement of ISO 20022 (XML)",
            ),
            (b"<?xml version=\"1.0\"?><?OFX OFXHEADER=\"200\"?>\n<OFX><X>", "an OFX statement (XML)"),
            (b"<OFX>\n<SIGNONMSGSRSV1></SIGNONMSGSRSV1>", "an OFX statement (XML)"),
            (b"OFXHEADER:100\r\nDATA:OFXSGML\r\n", "an OFX statement"),
            (
                b"<?xml version=\"1.0\"?>\n<?mso-application progid=\"Excel.Sheet\"?>\n<Workbook xmlns=\"urn:schemas-microsoft-com:office:spreadsheet\">",
                "an XML spreadsheet of Excel",
            ),
            (b"!Type:Bank\nD03/15/2024\n", "a QIF file"),
            (b":20:STARTUMSE\r\n:25:10010010/1", "an MT940 statement"),
            (b"{1:F01BANKDEFFXXXX0000000000}{2:", "a SWIFT message (MT940)"),
            (b"-----BEGIN PGP MESSAGE-----\n", "an encrypted PGP message"),
            (b"\x85\x02\x0c\x03", "an encrypted PGP message"),
        ];
        for (head, what) in cases {
            assert_eq!(detected(head), Some(what), "{}", head.escape_ascii());
        }
    }

    #[test]
    fn possible_rows_are_no_unsupported_format() {
        let long = format!("ORC_id;amount\n{}", "1;2\n".repeat(500));
        let cases: [&[u8]; 19] = [
            b"",
            b"<",
            b"<>",
            b"id,amount\n",
            b"<DATE>\t<TIME>\t<OPEN>\n2024.03.15\t10:00:00\t1\n",
            b"<DATE>,<TIME>,<AMOUNT>\n1,2,</b>\n",
            b"<title>;<amount>\n",
            b"<id>,<amount>\n1,</a>\n",
            b"<amount>\n",
            b"< 5,amount\n",
            b"BZh,id,amount\n",
            b"BZh9 id,amount\n",
            b"Object,id\n",
            b"ORCID,amount\n",
            b"FEA1,amount\n",
            b"PK,id,amount\n",
            b"Rar!,id\n",
            b"SQLite format 3,id\n",
            b"{\"id\": \"<html>\"}\n",
        ];
        for head in cases.into_iter().chain([long.as_bytes()]) {
            assert_eq!(detected(head), None, "{}", head.escape_ascii());
        }
        // A declared format is trusted, except against binary bytes.
        assert_eq!(OtherFormat::detect(b"<html><body></body></html>", true), None);
        assert!(OtherFormat::detect(b"Obj\x01", true).is_some());
    }

    #[test]
    fn an_unsupported_format_is_one_line_with_advice() {
        let error = OtherFormat::detect(&tar(false), false).unwrap().error(Compression::Gzip);
        assert_eq!(
            error.to_string(),
            "the source is a tar archive inside of gzip: unpack it, and load the files in it"
        );
        assert_eq!(error.exit(), Exit::SourceUnreadable);
        assert!(!error.is_final());
        for (_, _, format) in SIGNATURES {
            assert!(!format.error(Compression::None).to_string().contains('\n'));
        }
    }
}
