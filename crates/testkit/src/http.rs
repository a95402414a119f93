//! One HTTP request on its own connection, to a server that may be killed while it responds.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A response.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body, if it is JSON.
    pub body: serde_json::Value,
}

/// Posts a body to `address`, such as `127.0.0.1:8081`. After an error, the outcome is unknown.
pub async fn post(address: &str, path: &str, body: &str) -> io::Result<Answer> {
    post_with(address, path, "", body).await
}

/// As [`post`], with further headers, each begun by `\r\n`.
pub async fn post_with(address: &str, path: &str, headers: &str, body: &str) -> io::Result<Answer> {
    let length = body.len();
    request(
        address,
        &format!("POST {path} HTTP/1.1\r\ncontent-length: {length}\r\ncontent-type: application/json{headers}"),
        body,
    )
    .await
}

/// Gets a path.
pub async fn get(address: &str, path: &str) -> io::Result<Answer> {
    request(address, &format!("GET {path} HTTP/1.1"), "").await
}

/// Gets a path; returns the status and the text.
pub async fn get_text(address: &str, path: &str) -> io::Result<(u16, String)> {
    let (status, _, text) = exchange(address, &format!("GET {path} HTTP/1.1"), "").await?;
    Ok((status, text))
}

async fn request(address: &str, head: &str, body: &str) -> io::Result<Answer> {
    let (status, _, body) = exchange(address, head, body).await?;
    Ok(Answer { status, body: serde_json::from_str(&body).unwrap_or_default() })
}

/// Sends a request line with headers, each begun by `\r\n`, and a body. Returns status, head and body as they came.
pub async fn exchange(address: &str, head: &str, body: &str) -> io::Result<(u16, String, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let host = if head.contains("\r\nhost: ") { String::new() } else { format!("\r\nhost: {address}") };
    let request = format!("{head}{host}\r\nconnection: close\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let cut_off = || io::Error::new(io::ErrorKind::UnexpectedEof, "the answer is cut off");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(cut_off)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(cut_off)?;
    Ok((status, head.to_owned(), body.to_owned()))
}
