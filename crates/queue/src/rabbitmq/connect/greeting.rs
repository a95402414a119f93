//! What the server says of itself as a connection begins. The client reads it and does not show it, so it is read on its way in.

use std::sync::{Arc, OnceLock};

/// Longest greeting that is looked at; RabbitMQ's has about 500 bytes.
const MAX_GREETING: usize = 8 * 1024;
/// Type, channel and length of a frame.
const FRAME_HEAD: usize = 7;

/// The product and version of a server, as it names them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::rabbitmq) struct ServerVersion {
    /// `RabbitMQ`, for one.
    pub(in crate::rabbitmq) product: Option<String>,
    /// Such as `3.10.8`.
    pub(in crate::rabbitmq) version: Option<String>,
}

/// The version of one connection's server, known once it is connected.
#[derive(Debug, Clone, Default)]
pub(in crate::rabbitmq) struct Greeting(Arc<OnceLock<ServerVersion>>);

impl Greeting {
    pub(in crate::rabbitmq) fn server(&self) -> ServerVersion {
        self.0.get().cloned().unwrap_or_default()
    }
}

/// Reads the first frame.
pub(super) struct GreetingReader {
    greeting: Greeting,
    begun: Vec<u8>,
}

impl GreetingReader {
    pub(super) fn new(greeting: Greeting) -> Self {
        Self { greeting, begun: Vec::new() }
    }

    /// Takes what was received; cheap once the greeting is over.
    pub(super) fn feed(&mut self, received: &[u8]) {
        if self.greeting.0.get().is_some() {
            return;
        }
        self.begun.extend_from_slice(received);
        let whole = self.begun.get(3..FRAME_HEAD).and_then(|length| length.try_into().ok()).map(u32::from_be_bytes);
        let whole = whole
            .and_then(|length| usize::try_from(length).ok())
            .map_or(usize::MAX, |length| length.saturating_add(FRAME_HEAD));
        if self.begun.len() >= whole.min(MAX_GREETING) {
            let frame = std::mem::take(&mut self.begun);
            let text = |name: &str| property(&frame[..frame.len().min(whole)], name);
            // Set once: nothing else sets it.
            let _ = self.greeting.0.set(ServerVersion { product: text("product"), version: text("version") });
        }
    }
}

/// A text among the properties: the length of its name, the name, `S`, and the text behind its length of four bytes.
fn property(frame: &[u8], name: &str) -> Option<String> {
    let key = [&[u8::try_from(name.len()).ok()?], name.as_bytes(), b"S"].concat();
    let at = frame.windows(key.len()).position(|window| window == key)? + key.len();
    let length = u32::from_be_bytes(frame.get(at..at + 4)?.try_into().ok()?);
    let text = frame.get(at + 4..at.checked_add(4)?.checked_add(usize::try_from(length).ok()?)?)?;
    let is_plain = text.len() <= 64 && text.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    is_plain.then(|| String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(properties: &[u8]) -> Vec<u8> {
        let length = u32::try_from(properties.len()).unwrap().to_be_bytes();
        [&[1, 0, 0][..], &length, properties, &[206]].concat()
    }

    #[test]
    fn a_server_is_known_however_its_greeting_arrives() {
        let greeting =
            frame(b"\x00\x0a\x00\x0a\x00\x09\x07productS\x00\x00\x00\x08RabbitMQ\x07versionS\x00\x00\x00\x064.0.10");
        for part in [1, 5, greeting.len()] {
            let known = Greeting::default();
            let mut reader = GreetingReader::new(known.clone());
            greeting.chunks(part).for_each(|received| reader.feed(received));
            let expected = ServerVersion { product: Some("RabbitMQ".into()), version: Some("4.0.10".into()) };
            assert_eq!(known.server(), expected, "{part} bytes at a time");
        }
    }

    #[test]
    fn a_greeting_that_says_nothing_is_no_failure() {
        for odd in [&b"\x07versionS\x00\x00\xff\xff4"[..], b"\x07versionS\x00\x00\x00\x02\x1b[", b"", b"\x07versionF"] {
            let known = Greeting::default();
            GreetingReader::new(known.clone()).feed(&frame(odd));
            assert_eq!(known.server(), ServerVersion::default(), "{odd:?}");
        }
        let endless = Greeting::default();
        let mut reader = GreetingReader::new(endless.clone());
        (0..20).for_each(|_| reader.feed(&[255; 1024]));
        assert!(reader.begun.len() <= MAX_GREETING);
    }
}
