//! The messages of `tests/corpus`.

use std::path::Path;

use assay_transaction::{Chunk, ScoredChunk};

/// Checks each file of a corpus directory; its name says what is expected.
fn each(kind: &str, is_read: impl Fn(&[u8]) -> bool) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(kind);
    let mut seen = [0, 0];
    for file in std::fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let body = std::fs::read(&path).unwrap();
        let expected = match name.split_once('-') {
            Some(("read", _)) => true,
            Some(("refused", _)) => false,
            _ => panic!("{name} says neither `read-` nor `refused-`"),
        };
        crate::read(&body);
        assert_eq!(is_read(&body), expected, "{kind}/{name}");
        seen[usize::from(expected)] += 1;
    }
    assert!(seen.iter().all(|seen| *seen > 3), "{kind}: {seen:?}");
}

#[test]
fn chunks() {
    each("chunk", |body| Chunk::decode(body).is_ok());
}

#[test]
fn scored_chunks() {
    each("scored", |body| ScoredChunk::decode(body).is_ok());
}
