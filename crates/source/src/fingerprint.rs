//! Fingerprints: equal for sources with the same bytes, whatever their names and times.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;
use tracing::info;

use crate::error::DIED;
use crate::local::file;
use crate::{FoundSource, SourceError, SourceUrl};

/// Bytes read and hashed at a time.
pub(crate) const BLOCK_BYTES: usize = 1024 * 1024;
/// Wait before the first progress message; it doubles after each.
const SILENCE: Duration = Duration::from_secs(2);

/// The fingerprint of a version.
pub(crate) async fn fingerprint(url: &SourceUrl, found: &FoundSource) -> Result<Option<String>, SourceError> {
    if let Some(sha256) = found.identity.piped_sha256() {
        return Ok(Some(of_sha256(sha256)));
    }
    Ok(match url {
        SourceUrl::S3 { .. } => {
            let tag = &found.identity.version;
            is_content_hash(tag).then(|| format!("etag:{tag}:{}", found.size))
        }
        SourceUrl::File(_) | SourceUrl::Descriptor(_) => Some(of_sha256(&hash_file(found).await?)),
    })
}

fn of_sha256(digits: &str) -> String {
    format!("sha256:{digits}")
}

/// Whether an ETag is a hash of the content or of its parts: 32 hexadecimal digits, optionally with the number of
/// parts. Servers may use anything else, such as a time.
fn is_content_hash(tag: &str) -> bool {
    let (hash, parts) = tag.split_once('-').unwrap_or((tag, "1"));
    hash.len() == 32
        && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
        && !parts.is_empty()
        && parts.bytes().all(|byte| byte.is_ascii_digit())
}

/// Hashes a file; fails if it changes meanwhile.
async fn hash_file(found: &FoundSource) -> Result<String, SourceError> {
    let mut stream = file::open(&found.identity, 0).await?;
    let mut hashing = ProgressHasher::new(format!("hashing {} to find copies", found.identity.location));
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    while (&mut stream).take(BLOCK_BYTES as u64).read_to_end(&mut block).await? > 0 {
        let hashed = tokio::task::spawn_blocking(move || {
            hashing.update(&block);
            block.clear();
            (hashing, block)
        });
        (hashing, block) = hashed.await.map_err(|_| SourceError::Read { cause: DIED.to_owned() })?;
    }
    Ok(hashing.finish())
}

/// A hash that logs its progress if it takes long.
pub(crate) struct ProgressHasher {
    /// The activity, for the log.
    what: String,
    hash: Sha256,
    bytes: u64,
    began: Instant,
    silence: Duration,
}

impl ProgressHasher {
    pub(crate) fn new(what: String) -> Self {
        Self { what, hash: Sha256::new(), bytes: 0, began: Instant::now(), silence: SILENCE }
    }

    pub(crate) fn update(&mut self, block: &[u8]) {
        self.hash.update(block);
        self.bytes += block.len() as u64;
        if self.began.elapsed() >= self.silence {
            info!("{}: {} MiB so far", self.what, self.bytes / (1024 * 1024));
            self.silence *= 2;
        }
    }

    /// Bytes hashed so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The hash in hexadecimal.
    pub(crate) fn finish(self) -> String {
        self.hash.finalize().iter().fold(String::with_capacity(64), |mut digits, byte| {
            // Writing to a string cannot fail.
            let _ = write!(digits, "{byte:02x}");
            digits
        })
    }
}

#[cfg(test)]
mod tests {
    use assay_transaction::SourceIdentity;

    use super::*;

    #[tokio::test]
    async fn copies_of_files_have_one_fingerprint() {
        let folder = tempfile::tempdir().unwrap();
        let large = "0123456789abcdef".repeat(3 * BLOCK_BYTES / 16) + "end";
        let texts =
            [("a.csv", "abc"), ("b.csv", "abc"), ("c.csv", "abd"), ("d.csv", ""), ("e.csv", &large), ("f.csv", &large)];
        let mut prints = Vec::new();
        for (name, text) in texts {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            let (found, url) = (file::identify(&path).await.unwrap(), SourceUrl::File(path));
            prints.push(fingerprint(&url, &found).await.unwrap().unwrap());
        }
        assert_eq!(prints[0], "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!((&prints[0], &prints[4]), (&prints[1], &prints[5]));
        assert!(prints[0] != prints[2] && prints[0] != prints[3] && prints[0] != prints[4]);
    }

    #[tokio::test]
    async fn a_changed_file_has_no_fingerprint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, "abc").unwrap();
        let found = file::identify(&path).await.unwrap();
        std::fs::write(&path, "abcd").unwrap();
        let error = fingerprint(&SourceUrl::File(path), &found).await.unwrap_err();
        assert!(matches!(error, SourceError::Replaced { .. }), "{error}");
    }

    #[tokio::test]
    async fn only_etags_that_hash_the_content_are_fingerprints() {
        let tag = "5d41402abc4b2a76b9719d911017c592";
        let parts = format!("{tag}-12");
        let cases = [
            (tag, Some(format!("etag:{tag}:9"))),
            (&parts, Some(format!("etag:{parts}:9"))),
            ("size=9 modified=1", None),
            ("W/\"5d41\"", None),
            ("1700000000-9", None),
            ("5d41402abc4b2a76b9719d911017c59g", None),
            ("", None),
        ];
        for (version, expected) in cases {
            let identity = SourceIdentity { location: "s3://drops/a.csv".to_owned(), version: version.to_owned() };
            let url: SourceUrl = identity.location.parse().unwrap();
            assert_eq!(fingerprint(&url, &FoundSource { identity, size: 9 }).await.unwrap(), expected, "{version}");
        }
    }
}
