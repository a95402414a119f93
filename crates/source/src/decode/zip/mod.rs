//! Zip archives of one file: locates it through the central directory at the end, which alone is reliable, and verifies
//! the unpacked content.
//!
//! Folders and markers (`__MACOSX/`, `.DS_Store`) are ignored. Archives of several files, and unknown compressions, are
//! rejected by name. No crate is used, as they seek while they read: an object in S3 is read in two ranges for the
//! directory, then streamed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::pattern::marker::is_marker;
use crate::{ByteStream, FoundSource, SourceError, SourceUrl, Sources};

/// The end record without its comment.
const END_RECORD: usize = 22;
const END_SIGNATURE: &[u8] = b"PK\x05\x06";
/// The ZIP64 end record, and its locator right before the end record.
const ZIP64_END: usize = 56;
const ZIP64_END_SIGNATURE: &[u8] = b"PK\x06\x06";
const ZIP64_LOCATOR: usize = 20;
const ZIP64_LOCATOR_SIGNATURE: &[u8] = b"PK\x06\x07";
/// Longest comment.
const MAX_COMMENT: usize = 0xffff;
/// A directory entry without its name and what follows.
const ENTRY_HEADER: usize = 46;
const ENTRY_SIGNATURE: &[u8] = b"PK\x01\x02";
/// A local header without its name and what follows.
const LOCAL_HEADER: usize = 30;
const LOCAL_SIGNATURE: &[u8] = b"PK\x03\x04";
/// A number too large for its field; it is in the ZIP64 extra field.
const IN_ZIP64_EXTRA: u64 = 0xffff_ffff;
/// Id of the extra field with ZIP64 numbers.
const ZIP64_EXTRA: u16 = 1;
const ENCRYPTED: u16 = 1;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// The largest directory read; a larger one has thousands of entries.
const MAX_DIRECTORY: u64 = 1024 * 1024;
/// Names shown in an error, and characters of each.
const SHOWN_NAMES: usize = 5;
const SHOWN_CHARACTERS: usize = 60;

/// The one file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ZipMember {
    /// Offset and size of its compressed bytes.
    pub(crate) start: u64,
    pub(crate) packed: u64,
    pub(crate) is_deflated: bool,
    /// Size and CRC-32 of its content.
    size: u64,
    crc: u32,
}

/// Finds the one file of an archive.
pub(crate) async fn find_member(
    sources: &Sources,
    url: &SourceUrl,
    found: &FoundSource,
) -> Result<ZipMember, SourceError> {
    let read = async |from: u64, length: u64| {
        let end = from.checked_add(length).filter(|end| *end <= found.size).ok_or_else(broken)?;
        sources.read_at(url, &found.identity, from..end).await
    };
    let tail_bytes = found.size.min((ZIP64_LOCATOR + END_RECORD + MAX_COMMENT) as u64);
    let tail = read(found.size - tail_bytes, tail_bytes).await?;
    let mut directory = CentralDirectory::find(&tail).ok_or_else(broken)?;
    if let Some(at) = directory.continued_at {
        let large = read(at, ZIP64_END as u64).await?;
        directory = CentralDirectory::large(&large).ok_or_else(broken)?;
    }
    if directory.bytes > MAX_DIRECTORY {
        return Err(unsupported(format!("a zip archive of {} files", directory.entries), TAKE_OUT));
    }
    let entries = read(directory.start, directory.bytes).await?;
    let entry = choose_entry(&read_entries(&entries).ok_or_else(broken)?)?;
    let local = read(entry.local, LOCAL_HEADER as u64).await?;
    let lengths = (number(&local, 26, 2), number(&local, 28, 2));
    let (Some(name), Some(extra), true) = (lengths.0, lengths.1, local.starts_with(LOCAL_SIGNATURE)) else {
        return Err(broken());
    };
    let start = entry.local + LOCAL_HEADER as u64 + name + extra;
    if start.checked_add(entry.packed).is_none_or(|end| end > found.size) {
        return Err(broken());
    }
    let DirectoryEntry { packed, size, crc, method, .. } = entry;
    Ok(ZipMember { start, packed, is_deflated: method == DEFLATED, size, crc })
}

const TAKE_OUT: &str = "unpack it, and load the files in it";

fn unsupported(what: String, remedy: &'static str) -> SourceError {
    SourceError::OtherFormat { what, remedy }
}

fn broken() -> SourceError {
    unsupported("a zip archive whose directory is cut off or damaged".to_owned(), "send it again")
}

/// The location of the directory.
#[derive(Debug, PartialEq, Eq)]
struct CentralDirectory {
    start: u64,
    bytes: u64,
    entries: u64,
    /// The location of the ZIP64 end record.
    continued_at: Option<u64>,
}

impl CentralDirectory {
    /// Parses the end record from the last bytes of an archive.
    fn find(tail: &[u8]) -> Option<Self> {
        let is_end = |at: &usize| {
            tail[*at..].starts_with(END_SIGNATURE)
                && number(tail, at + 20, 2).is_some_and(|comment| {
                    at + END_RECORD + usize::try_from(comment).unwrap_or(MAX_COMMENT) == tail.len()
                })
        };
        let at = (0..=tail.len().checked_sub(END_RECORD)?).rev().find(is_end)?;
        let locator = at
            .checked_sub(ZIP64_LOCATOR)
            .map(|start| &tail[start..at])
            .filter(|found| found.starts_with(ZIP64_LOCATOR_SIGNATURE));
        let continued_at = locator.and_then(|locator| number(locator, 8, 8));
        let (entries, bytes, start) = (number(tail, at + 10, 2)?, number(tail, at + 12, 4)?, number(tail, at + 16, 4)?);
        Some(Self { start, bytes, entries, continued_at })
    }

    fn large(record: &[u8]) -> Option<Self> {
        let is_one = record.starts_with(ZIP64_END_SIGNATURE);
        let (entries, bytes, start) = (number(record, 32, 8)?, number(record, 40, 8)?, number(record, 48, 8)?);
        is_one.then_some(Self { start, bytes, entries, continued_at: None })
    }
}

/// An entry of the directory.
#[derive(Debug, Clone)]
struct DirectoryEntry {
    name: String,
    flags: u16,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
    /// Offset of its local header.
    local: u64,
}

fn read_entries(mut directory: &[u8]) -> Option<Vec<DirectoryEntry>> {
    let mut entries = Vec::new();
    while directory.starts_with(ENTRY_SIGNATURE) {
        let length = |at| number(directory, at, 2).and_then(|length| usize::try_from(length).ok());
        let (name, extra, comment) = (length(28)?, length(30)?, length(32)?);
        let extra_at = ENTRY_HEADER + name;
        let mut large = Zip64Numbers(zip64_numbers(directory.get(extra_at..extra_at + extra)?));
        // The order of the extra field.
        let size = large.or(number(directory, 24, 4)?)?;
        let packed = large.or(number(directory, 20, 4)?)?;
        let local = large.or(number(directory, 42, 4)?)?;
        entries.push(DirectoryEntry {
            name: String::from_utf8_lossy(directory.get(ENTRY_HEADER..extra_at)?).into_owned(),
            flags: u16::try_from(number(directory, 8, 2)?).ok()?,
            method: u16::try_from(number(directory, 10, 2)?).ok()?,
            crc: u32::try_from(number(directory, 16, 4)?).ok()?,
            packed,
            size,
            local,
        });
        directory = directory.get(extra_at + extra + comment..)?;
    }
    Some(entries)
}

/// The ZIP64 extra field of an entry.
fn zip64_numbers(mut extra: &[u8]) -> &[u8] {
    while let (Some(kind), Some(length)) = (number(extra, 0, 2), number(extra, 2, 2)) {
        let end = 4 + usize::try_from(length).unwrap_or(MAX_COMMENT);
        let (Some(field), Some(rest)) = (extra.get(4..end), extra.get(end..)) else { break };
        if kind == u64::from(ZIP64_EXTRA) {
            return field;
        }
        extra = rest;
    }
    &[]
}

struct Zip64Numbers<'a>(&'a [u8]);

impl Zip64Numbers<'_> {
    /// The number, or the next ZIP64 number in its place.
    fn or(&mut self, short: u64) -> Option<u64> {
        if short != IN_ZIP64_EXTRA {
            return Some(short);
        }
        let large = number(self.0, 0, 8)?;
        self.0 = &self.0[8..];
        Some(large)
    }
}

/// The one file among the entries, if it can be unpacked.
fn choose_entry(entries: &[DirectoryEntry]) -> Result<DirectoryEntry, SourceError> {
    if let Some(what) = office_document(entries) {
        return Err(unsupported(what.to_owned(), "export it as CSV, JSON Lines or Parquet"));
    }
    let files = || entries.iter().filter(|entry| !entry.name.ends_with(['/', '\\']));
    let mut wanted: Vec<&DirectoryEntry> = files().filter(|entry| !is_marker("", &entry.name)).collect();
    if wanted.is_empty() {
        wanted = files().collect();
    }
    let [entry] = wanted[..] else {
        if wanted.is_empty() {
            return Err(unsupported("an empty zip archive".to_owned(), "send it with a file in it"));
        }
        let names: Vec<String> = wanted.iter().take(SHOWN_NAMES).map(|entry| display_name(&entry.name)).collect();
        let rest = if wanted.len() > SHOWN_NAMES { ", …" } else { "" };
        return Err(unsupported(
            format!("a zip archive of {} files ({}{rest})", wanted.len(), names.join(", ")),
            TAKE_OUT,
        ));
    };
    let name = display_name(&entry.name);
    if entry.flags & ENCRYPTED != 0 || entry.method == 99 {
        return Err(unsupported(format!("an encrypted zip archive ({name})"), "unpack it with its password"));
    }
    if ![STORED, DEFLATED].contains(&entry.method) {
        let method = method_name(entry.method);
        return Err(unsupported(
            format!("a zip archive whose file {name} is compressed with {method}"),
            "unpack it first",
        ));
    }
    if entry.method == STORED && entry.packed != entry.size {
        return Err(broken());
    }
    Ok(entry.clone())
}

/// A document that is technically a zip archive.
fn office_document(entries: &[DirectoryEntry]) -> Option<&'static str> {
    let has = |start: &str| entries.iter().any(|entry| entry.name.starts_with(start));
    let kinds = [
        (has("xl/workbook.bin"), "an Excel workbook (.xlsb)"),
        (has("xl/"), "an Excel workbook (.xlsx)"),
        (has("word/"), "a Word document (.docx)"),
        (has("ppt/"), "a PowerPoint document (.pptx)"),
        (has("[Content_Types].xml"), "an Office document (.xlsx, .docx or .pptx)"),
        (has("Index/Document.iwa"), "an iWork document (.numbers or .pages)"),
        (has("mimetype") && has("content.xml"), "an OpenDocument file (.ods or .odt)"),
    ];
    kinds.into_iter().find_map(|(is_one, what)| is_one.then_some(what))
}

fn method_name(number: u16) -> String {
    let name = match number {
        9 => "Deflate64",
        12 => "bzip2",
        14 => "LZMA",
        20 | 93 => "zstd",
        95 => "xz",
        98 => "PPMd",
        _ => return format!("method {number}"),
    };
    name.to_owned()
}

fn display_name(name: &str) -> String {
    let shown: String = name.chars().take(SHOWN_CHARACTERS).flat_map(char::escape_debug).collect();
    format!("`{shown}{}`", if name.chars().count() > SHOWN_CHARACTERS { "…" } else { "" })
}

/// A little-endian number.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let digits = bytes.get(at..at.checked_add(length)?)?;
    Some(digits.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Deflate errors do not distinguish an early end from other damage; errors of the stream below stay.
fn damaged(error: io::Error) -> io::Error {
    if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<SourceError>) {
        return error;
    }
    let cause = format!("they end too early, or cannot be unpacked ({error})");
    io::Error::other(SourceError::Damaged { what: "zip", cause })
}

/// Verifies size and checksum of the content against the directory.
pub(crate) struct ChecksumVerifier {
    stream: ByteStream,
    member: ZipMember,
    read: u64,
    crc: crc32fast::Hasher,
}

impl ChecksumVerifier {
    pub(crate) fn new(stream: ByteStream, member: ZipMember) -> Self {
        Self { stream, member, read: 0, crc: crc32fast::Hasher::new() }
    }

    fn check(&self, is_end: bool) -> Result<(), SourceError> {
        let damaged = |cause: &str| Err(SourceError::Damaged { what: "zip", cause: cause.to_owned() });
        if self.read > self.member.size {
            damaged("they are longer than its directory says")
        } else if is_end && self.read < self.member.size {
            damaged("they end too early")
        } else if is_end && self.crc.clone().finalize() != self.member.crc {
            damaged("their checksum differs from its directory")
        } else {
            Ok(())
        }
    }
}

impl AsyncRead for ChecksumVerifier {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.stream.as_mut().poll_read(context, buffer)).map_err(damaged)?;
        let read = &buffer.filled()[before..];
        self.crc.update(read);
        self.read += read.len() as u64;
        let is_end = read.is_empty() && buffer.remaining() > 0;
        Poll::Ready(self.check(is_end).map_err(io::Error::other))
    }
}

#[cfg(test)]
mod tests;
