//! Warnings about RabbitMQ policies that break what Assay relies on. Policies override what is declared, and AMQP does not show
//! them; the management API does, if it is enabled.
//!
//! It is asked once at the start, at its default port on the host of an `amqp://` address, as the same user; never for `amqps://…`,
//! as the password could be sent unencrypted. If it cannot be asked, no warning appears.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lapin::uri::{AMQPScheme, AMQPUri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{debug, warn};

const PORT: u16 = 15672;
const TIMEOUT: Duration = Duration::from_secs(2);
/// The longest response read: some thousands of queues.
const MAX_RESPONSE: u64 = 4 * 1024 * 1024;

/// Warns of each queue whose policy breaks what Assay relies on.
pub(super) async fn warn_of_policies(uri: &AMQPUri, prefix: &str) {
    match harmful_policies(uri, prefix).await {
        Ok(warnings) => warnings.iter().for_each(|warning| warn!("{warning}")),
        Err(cause) => debug!("cannot read the policies of RabbitMQ ({cause})"),
    }
}

/// One line for each harmful setting of a policy; or why the policies are not known.
pub(super) async fn harmful_policies(uri: &AMQPUri, prefix: &str) -> Result<Vec<String>, String> {
    if uri.scheme != AMQPScheme::AMQP {
        return Err("the management API is not asked without TLS".to_owned());
    }
    let queues = timeout(TIMEOUT, ask(uri, PORT)).await.unwrap_or_else(|_| Err("no response".to_owned()))?;
    Ok(queues.iter().flat_map(|queue| queue.warnings(prefix)).collect())
}

#[derive(Debug, Deserialize)]
struct ListedQueue {
    name: String,
    #[serde(default)]
    policy: Option<String>,
    #[serde(default)]
    operator_policy: Option<String>,
    /// An object, or an empty list.
    #[serde(default)]
    effective_policy_definition: Value,
}

impl ListedQueue {
    /// One line for each problem.
    fn warnings(&self, prefix: &str) -> Vec<String> {
        let Some(name) = self.name.strip_prefix(prefix).filter(|name| is_assay_queue(name)) else { return Vec::new() };
        let Some(definition) = self.effective_policy_definition.as_object() else { return Vec::new() };
        let set: BTreeMap<_, _> = definition.iter().collect();
        let policies: Vec<_> =
            [&self.policy, &self.operator_policy].into_iter().flatten().map(String::as_str).collect();
        let warnings = set.into_iter().filter_map(|(key, value)| {
            let effect = effect(name, key, value)?;
            Some(format!(
                "policy `{}` sets {key} of queue {} to {value}: {effect}; keep the queues of Assay out of its pattern",
                policies.join("`, `"),
                self.name
            ))
        });
        warnings.collect()
    }
}

/// Whether the name without the prefix is that of a queue of ours.
fn is_assay_queue(name: &str) -> bool {
    ["transactions.", "predictions.", "assay.events."].iter().any(|start| name.starts_with(start))
        || name == "dead_letters"
}

/// The consequence of a policy with this setting; `None` if it does no harm.
fn effect(queue: &str, key: &str, value: &Value) -> Option<&'static str> {
    match key {
        "overflow" if value != "reject-publish" => Some("messages are dropped when it is full, and rows go missing"),
        "message-ttl" if queue == "dead_letters" => {
            Some("dead letters expire before they are recorded, and runs do not end")
        }
        "message-ttl" => Some("messages that wait too long become dead letters, and their rows fail"),
        "expires" => Some("it is deleted with all its messages while it has no consumers"),
        "max-length" | "max-length-bytes" => Some("it is full before QUEUE_MAX_LENGTH is reached"),
        "delivery-limit" => Some("messages are dead-lettered before 100 deliveries, and their rows fail"),
        "dead-letter-strategy" if value != "at-least-once" => Some("dead letters can be lost, and rows go missing"),
        _ => None,
    }
}

async fn ask(uri: &AMQPUri, port: u16) -> Result<Vec<ListedQueue>, String> {
    let host = uri.authority.host.as_str();
    let mut stream = TcpStream::connect((host, port)).await.map_err(|error| error.to_string())?;
    let user = &uri.authority.userinfo;
    let credentials = STANDARD.encode(format!("{}:{}", user.username, user.password));
    // HTTP/1.0: the response is not chunked, and ends with the connection.
    let request = format!(
        "GET /api/queues/{}?columns=name,policy,operator_policy,effective_policy_definition HTTP/1.0\r\n\
         Host: {host}:{port}\r\nAuthorization: Basic {credentials}\r\nAccept: application/json\r\n\r\n",
        utf8_percent_encode(&uri.vhost, NON_ALPHANUMERIC)
    );
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut response = Vec::new();
    stream.take(MAX_RESPONSE).read_to_end(&mut response).await.map_err(|error| error.to_string())?;
    read(&response)
}

fn read(response: &[u8]) -> Result<Vec<ListedQueue>, String> {
    let (head, body) = response
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|end| (&response[..end], &response[end + 4..]))
        .ok_or("the response is not HTTP")?;
    let status = head.split(|&byte| byte == b' ').nth(1);
    if status != Some(b"200") {
        let status = String::from_utf8_lossy(status.unwrap_or_default());
        return Err(format!("status {status}; its users need the tag `management`"));
    }
    // The error itself would quote the response.
    serde_json::from_slice(body).map_err(|_| "the response is not a list of queues".to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn harmful_policies_are_reported() {
        let cases = [
            ("p.transactions.batch", r#"{"overflow": "drop-head", "max-length": 5}"#, vec!["max-length", "overflow"]),
            ("p.predictions.realtime.delay.1s", r#"{"message-ttl": 1}"#, vec!["message-ttl"]),
            ("p.dead_letters", r#"{"expires": 60000, "delivery-limit": 3}"#, vec!["delivery-limit", "expires"]),
            ("p.assay.events.s3-x.00", r#"{"dead-letter-strategy": "at-most-once"}"#, vec!["dead-letter-strategy"]),
            ("p.transactions.batch", r#"{"overflow": "reject-publish", "queue-leader-locator": "balanced"}"#, vec![]),
            ("p.transactions.batch", "[]", vec![]),
            ("transactions.batch", r#"{"overflow": "drop-head"}"#, vec![]),
            ("p.orders", r#"{"overflow": "drop-head"}"#, vec![]),
        ];
        for (name, definition, expected) in cases {
            let queue =
                format!(r#"{{"name": "{name}", "policy": "all", "effective_policy_definition": {definition}}}"#);
            let warnings = serde_json::from_str::<ListedQueue>(&queue).unwrap().warnings("p.");
            assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
            for (warning, key) in warnings.iter().zip(expected) {
                assert!(warning.starts_with(&format!("policy `all` sets {key} of queue {name} to ")), "{warning}");
            }
        }
    }

    #[tokio::test]
    async fn the_management_api_is_asked_as_the_same_user() {
        let responses = [
            ("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[{\"name\": \"q\"}]", Ok(1)),
            ("HTTP/1.1 401 Unauthorized\r\n\r\n{}", Err("status 401")),
            ("HTTP/1.1 200 OK\r\n\r\n<html>", Err("not a list of queues")),
            ("SSH-2.0-x\r\n", Err("not HTTP")),
            ("", Err("not HTTP")),
        ];
        for (response, expected) in responses {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 1024];
                let length = stream.read(&mut request).await.unwrap();
                stream.write_all(response.as_bytes()).await.unwrap();
                String::from_utf8(request[..length].to_vec()).unwrap()
            });
            let uri: AMQPUri = "amqp://guest:gu%20est@127.0.0.1:5672/a%2fb".parse().unwrap();
            let asked = ask(&uri, port).await;
            match (asked, expected) {
                (Ok(queues), Ok(count)) => assert_eq!(queues.len(), count),
                (Err(cause), Err(words)) => assert!(cause.contains(words), "{cause}"),
                other => panic!("{other:?}"),
            }
            let request = server.await.unwrap();
            assert!(request.starts_with("GET /api/queues/a%2Fb?columns="), "{request}");
            assert!(request.contains(&STANDARD.encode("guest:gu est")), "{request}");
        }
    }
}
