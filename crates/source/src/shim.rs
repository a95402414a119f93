//! To be replaced.

use assay_transaction::{Columns, Encoding, Fields};

use crate::ByteStream;

pub(crate) fn name_key(name: &str) -> String {
    name.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

pub(crate) fn amount_texts(columns: &Columns, fields: &(impl Fields + ?Sized), encoding: Encoding) -> Vec<String> {
    let Some(index) = columns.amount().filter(|index| !fields.is_number(*index)) else { return Vec::new() };
    let text = encoding.decode(fields.get(index).unwrap_or_default()).map(|text| text.trim().to_owned());
    text.into_iter().filter(|text| !text.is_empty()).collect()
}

pub(crate) fn transcode(stream: ByteStream, _: Encoding) -> ByteStream {
    stream
}
