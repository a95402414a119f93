//! AMQP without a client library: publishes properties that no client library would write.

use std::time::Duration;

use lapin::uri::AMQPUri;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 206;
const LARGEST_FRAME: u32 = 131_072;
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// The bits of the present properties of a message, and the bytes that follow.
#[derive(Debug, Clone)]
pub struct RawProperties {
    flags: u16,
    bytes: Vec<u8>,
}

impl RawProperties {
    /// Bits and bytes as they are sent.
    pub fn new(flags: u16, bytes: impl Into<Vec<u8>>) -> Self {
        Self { flags, bytes: bytes.into() }
    }

    /// A single property that is a short text, by its bit: 15 content type, 14 encoding, 10 correlation id, 9 reply to, 8
    /// expiration, 7 message id, 5 type, 4 user id, 3 app id, 2 cluster id.
    pub fn short(bit: u8, text: &[u8]) -> Self {
        Self::new(1 << bit, short(text))
    }

    /// Headers, from the bytes of the table.
    pub fn headers(table: &[u8]) -> Self {
        Self::new(1 << 13, long(table))
    }

    /// Headers with tables (`F`) or arrays (`A`) in each other.
    pub fn nested(depth: usize, kinds: &[u8]) -> Self {
        Self::headers(&nested_table(depth, kinds))
    }

    /// As deep as fits a frame; RabbitMQ needs some seconds for it.
    pub fn deepest() -> Self {
        Self::nested(18_700, b"F")
    }

    /// Properties that RabbitMQ passes on, and that a client library may break on; with names for them.
    pub fn poisons() -> Vec<(String, Self)> {
        let table = |entries: &[&[u8]]| Self::headers(&entries.concat());
        // Not the times after which messages expire, and who publishes them: RabbitMQ itself looks at those.
        let texts = [15, 14, 10, 9, 7, 5, 3, 2].map(|bit| (format!("text {bit}"), Self::short(bit, NOT_UTF_8)));
        // RabbitMQ itself needs time that grows with the square of the depth.
        let depths = [(2_500, &b"F"[..]), (2_000, b"FA"), (3_000, b"FAAA")];
        let deep = depths.map(|(depth, kinds)| (format!("{depth} deep"), Self::nested(depth, kinds)));
        let others = [
            ("a name", table(&[&short(NOT_UTF_8), b"V"])),
            ("many", table(&[&b"\x01aV".repeat(40_000)])),
            // RabbitMQ adds headers of its own, and then it is more than a frame takes.
            ("a full frame", table(&[b"\x01aS", &long(&b"x".repeat(130_990))])),
            // Longer than an index of PostgreSQL takes, and nothing makes it shorter.
            ("a long run", table(&[b"\x06run_idS", &long(&letters(10_000))])),
        ];
        let others = others.map(|(name, properties)| (name.to_owned(), properties));
        texts.into_iter().chain(deep).chain(others).collect()
    }
}

/// A table with tables (`F`) or arrays (`A`) in each other, of these kinds in turn, beginning with a table.
pub fn nested_table(depth: usize, kinds: &[u8]) -> Vec<u8> {
    let before_length = |level: usize| {
        // The entries of a table have names.
        let name: &[u8] = if level == 0 || kinds[(level - 1) % kinds.len()] == b'F' { b"\x01a" } else { b"" };
        [name, &[kinds[level % kinds.len()]]].concat()
    };
    let mut left: usize = (0..depth).map(|level| before_length(level).len() + 4).sum();
    let mut table = Vec::with_capacity(left);
    for level in 0..depth {
        let start = before_length(level);
        left -= start.len() + 4;
        table.extend(start);
        table.extend(u32::try_from(left).expect("it fits").to_be_bytes());
    }
    table
}

/// A text that is not UTF-8.
pub const NOT_UTF_8: &[u8] = b"a\xff\xfeb";

/// Letters that no compression makes shorter, always the same.
fn letters(count: usize) -> Vec<u8> {
    let next = |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    let states = std::iter::successors(Some(1), next);
    states.map(|state| b'a' + u8::try_from((state >> 33) % 26).unwrap_or_default()).take(count).collect()
}

/// A text with a length of one byte.
fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).expect("it is short")], text].concat()
}

/// Bytes with a length of four bytes.
fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).expect("it is no longer than that").to_be_bytes(), bytes].concat()
}

/// A connection with one channel, on which publishes are confirmed.
#[derive(Debug)]
pub struct RawAmqp(TcpStream);

impl RawAmqp {
    /// Connects, without TLS.
    pub async fn connect(url: &str) -> Self {
        let uri: AMQPUri = url.parse().expect("an address of RabbitMQ");
        let (authority, user) = (&uri.authority, &uri.authority.userinfo);
        let stream = TcpStream::connect((authority.host.as_str(), authority.port)).await.expect("RabbitMQ is there");
        let mut amqp = Self(stream);
        amqp.send(b"AMQP\x00\x00\x09\x01").await;
        amqp.expect(10, 10).await;
        let login = format!("\0{}\0{}", user.username, user.password);
        let start_ok = [&long(b"")[..], &short(b"PLAIN"), &long(login.as_bytes()), &short(b"en_US")].concat();
        amqp.method(0, 10, 11, &start_ok).await;
        amqp.expect(10, 30).await;
        amqp.method(0, 10, 31, &[&[0, 10][..], &LARGEST_FRAME.to_be_bytes(), &[0, 0]].concat()).await;
        amqp.method(0, 10, 40, &[&short(uri.vhost.as_bytes())[..], &[0, 0]].concat()).await;
        amqp.expect(10, 41).await;
        amqp.method(1, 20, 10, &[0]).await;
        amqp.expect(20, 11).await;
        amqp.method(1, 85, 10, &[0]).await;
        amqp.expect(85, 11).await;
        amqp
    }

    /// Publishes, and waits until RabbitMQ has it in a queue, or has refused it, as a full queue does: returns which.
    pub async fn publish(&mut self, exchange: &str, key: &[u8], properties: &RawProperties, body: &[u8]) -> bool {
        const MANDATORY: u8 = 1;
        let publish = [&[0, 0][..], &short(exchange.as_bytes()), &short(key), &[MANDATORY]].concat();
        self.method(1, 60, 40, &publish).await;
        let length = u64::try_from(body.len()).expect("it fits").to_be_bytes();
        let header = [&[0, 60, 0, 0][..], &length, &properties.flags.to_be_bytes(), &properties.bytes].concat();
        self.frame(HEADER, 1, &header).await;
        for part in body.chunks(100_000) {
            self.frame(BODY, 1, part).await;
        }
        let answer = self.answer().await;
        assert!(matches!(answer[..4], [0, 60, 0, 80 | 120]), "{}", String::from_utf8_lossy(&answer));
        answer[3] == 80
    }

    async fn method(&mut self, channel: u8, class: u8, method: u8, arguments: &[u8]) {
        self.frame(METHOD, channel, &[&[0, class, 0, method], arguments].concat()).await;
    }

    async fn frame(&mut self, kind: u8, channel: u8, payload: &[u8]) {
        self.send(&[&[kind, 0, channel], &long(payload)[..], &[FRAME_END]].concat()).await;
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("RabbitMQ takes it");
    }

    /// Waits for a method, and takes no other.
    async fn expect(&mut self, class: u8, method: u8) {
        let answer = self.answer().await;
        assert_eq!(answer[..4], [0, class, 0, method], "{}", String::from_utf8_lossy(&answer));
    }

    /// The next method.
    async fn answer(&mut self) -> Vec<u8> {
        let answer = async {
            loop {
                let mut start = [0; 7];
                self.0.read_exact(&mut start).await.expect("RabbitMQ answers");
                let length = u32::from_be_bytes([start[3], start[4], start[5], start[6]]);
                let mut rest = vec![0; usize::try_from(length).expect("it fits") + 1];
                self.0.read_exact(&mut rest).await.expect("RabbitMQ answers");
                if start[0] == METHOD {
                    return rest;
                }
            }
        };
        timeout(TIME_LIMIT, answer).await.expect("RabbitMQ answers in time")
    }
}
