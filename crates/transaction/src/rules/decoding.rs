//! Decodes the bytes of a row into text that a database can store.

use std::borrow::Cow;

use crate::value::text::{trimmed, trimmed_cow};
use crate::{DecidedBy, DecisionSubject, Encoding, Format, ReadingRules, RejectReason, Rejection, RunSettings};

#[derive(Debug, Clone, Copy)]
pub(crate) struct TextDecoder {
    encoding: Encoding,
    /// The encoding of the source before it was transcoded.
    of_source: Encoding,
    /// Where the encoding came from; none if it cannot be set.
    decided_by: Option<DecidedBy>,
    trims: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UndecodableText {
    /// What is wrong, what the text would be in another encoding, and what to do.
    NotText {
        complaint: String,
        likely: Option<(String, Encoding)>,
        hint: &'static str,
    },
    NulByte,
}

impl TextDecoder {
    /// For a source whose encoding is all that is known.
    pub(crate) fn of(encoding: Encoding) -> Self {
        let decided_by = Some(DecidedBy::Default);
        Self { encoding: encoding.of_rows(), of_source: encoding, decided_by, trims: true }
    }

    pub(crate) fn of_run(settings: &RunSettings) -> Self {
        let trims = settings.reading != ReadingRules::First;
        // Text in Parquet is always UTF-8.
        let is_settable = !(trims && settings.format == Format::Parquet);
        let decided_by = is_settable.then(|| settings.decided_by(DecisionSubject::Encoding));
        let encoding = settings.encoding_of_rows();
        let of_source = if settings.is_transcoded() { settings.dialect.encoding } else { encoding };
        Self { encoding, of_source, decided_by, trims }
    }

    /// The same for an encoding that cannot be set.
    pub(crate) fn without_settings(self) -> Self {
        Self { decided_by: None, ..self }
    }

    pub(crate) fn trims(self) -> bool {
        self.trims
    }

    /// Decodes and trims text that PostgreSQL can store.
    pub(crate) fn text(self, bytes: &[u8]) -> Result<Cow<'_, str>, UndecodableText> {
        let text = self.encoding.decode(bytes).ok_or_else(|| self.complaint(bytes))?;
        if text.as_bytes().contains(&0) {
            return Err(UndecodableText::NulByte);
        }
        Ok(if self.trims { trimmed_cow(text) } else { text })
    }

    fn complaint(self, bytes: &[u8]) -> UndecodableText {
        let encoding = self.of_source;
        let Some(decided_by) = self.decided_by else {
            let complaint = format!("is not valid {encoding} text");
            return UndecodableText::NotText { complaint, likely: None, hint: "" };
        };
        let complaint = format!("is not valid {encoding} text ({decided_by})");
        let mut others = [Encoding::UTF_8, Encoding::WINDOWS_1252].into_iter().filter(|other| *other != self.encoding);
        // Transcoding has replaced what is not a character in the source's encoding.
        let is_as_it_was = encoding == self.encoding;
        let likely = others.find_map(|other| Some((other, other.decode(bytes)?))).filter(|_| is_as_it_was);
        let likely = likely.map(|(other, text)| (trimmed(&text).to_owned(), other));
        UndecodableText::NotText { complaint, likely, hint: "; set ENCODING to that of the source" }
    }
}

impl UndecodableText {
    pub(crate) fn into_rejection(self, field: &str) -> Rejection {
        match self {
            Self::NotText { complaint, likely, hint } => {
                let mut rejection = Rejection::new(RejectReason::Encoding, format!("{field} {complaint}"));
                if let Some((text, encoding)) = likely {
                    rejection.push_words("; it would be ");
                    rejection.push_value(&text);
                    rejection.push_words(&format!(" in {encoding}"));
                }
                rejection.push_words(hint);
                rejection
            }
            Self::NulByte => Rejection::new(RejectReason::NulByte, format!("{field} holds a NUL byte")),
        }
    }
}
