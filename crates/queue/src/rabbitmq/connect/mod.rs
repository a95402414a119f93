//! Connections that reconnect by themselves, with jittered backoff, and declare the topology again.
//!
//! Guarantee: [`PersistentConnection::live`] waits until there is a connection. The client's own recovery is off: with it,
//! publishes under way could hang for the whole outage.

mod address;
mod backoff;
pub(super) mod greeting;
mod outage;
mod transport;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use assay_connect::{ExposeSecret as _, RetryPolicy, TlsMaterial, retry};
use futures_util::StreamExt;
use lapin::protocol::constants::REPLY_SUCCESS;
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::types::ShortString;
use lapin::uri::{AMQPAuthority, AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties, Event};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::backoff::{ConnectionLoss, ReconnectBackoff};
use self::greeting::Greeting;
use self::outage::Outage;
use super::failure::{FailureKind, cause, classify, is_unreadable};
use super::policies;
use super::topology::{DeclareMode, Topology, find_queue};
use crate::options::TLS_PREFIX;
use crate::publish::RETRY;
use crate::{BrokerEndpoint, BrokerError, BrokerOptions, QueueCounts, metrics};

/// Seconds between heartbeats, unless the URL sets them: a dead peer is noticed after two.
const HEARTBEAT: u16 = 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT: RetryPolicy = RetryPolicy::new(Duration::from_millis(100), Duration::from_secs(2));
const RECONNECT: RetryPolicy = RetryPolicy::new(Duration::from_millis(100), Duration::from_secs(10));
/// How often a silent connection is checked.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// The start of RabbitMQ's reply to a user without permission.
pub(super) const NOT_ALLOWED: &str = "ACCESS_REFUSED";

/// What all connections of a broker share.
pub(super) struct ConnectionSettings {
    uri: AMQPUri,
    name: String,
    /// Certificates and keys are read anew for each connection, as they may be renewed meanwhile.
    options: BrokerOptions,
    declaring: DeclareMode,
    pub(super) topology: Topology,
    /// Longest time for any request but a publish.
    pub(super) request_timeout: Duration,
    outage: Outage,
}

impl ConnectionSettings {
    pub(super) fn new(options: &BrokerOptions, stage: &str, declaring: DeclareMode) -> Result<Self, BrokerError> {
        let address = options.address()?;
        let mut uri = address::read(address.expose_secret()).map_err(|error| BrokerError::Usage(error.to_string()))?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        options.endpoint.tls().require_tls(uri.scheme == AMQPScheme::AMQPS, "amqps://")?;
        Ok(Self {
            uri,
            name: format!("assay-{stage}"),
            topology: Topology::new(&options.queue_prefix, options.queue_max_length),
            request_timeout: options.publish_timeout,
            // Not the address, which may hold a password and is no longer needed.
            options: BrokerOptions {
                endpoint: BrokerEndpoint { url: None, ..options.endpoint.clone() },
                ..options.clone()
            },
            declaring,
            outage: Outage::default(),
        })
    }

    /// Warns of policies that break what Assay relies on.
    pub(super) async fn warn_of_policies(&self) {
        policies::warn_of_policies(&self.uri, &self.options.queue_prefix).await;
    }

    /// Those policies, one line each; or why they are not known.
    pub(super) async fn harmful_policies(&self) -> Result<Vec<String>, String> {
        policies::harmful_policies(&self.uri, &self.options.queue_prefix).await
    }

    /// Whether the address is one of TLS.
    pub(super) fn is_encrypted(&self) -> bool {
        self.uri.scheme == AMQPScheme::AMQPS
    }

    /// What is said of queues with other settings.
    pub(super) fn declared_otherwise(&self, cause: &str) -> String {
        format!(
            "RabbitMQ at {} has the queues with other settings ({cause}): set QUEUE_MAX_LENGTH as it was, choose another \
             QUEUE_PREFIX, or delete the queues",
            self.server()
        )
    }

    /// What is said of an alarm.
    pub(super) fn blocks_publishing(&self) -> String {
        format!("RabbitMQ at {} blocks publishing, as it is short of memory or disk", self.server())
    }

    /// The user of the address.
    pub(super) fn user(&self) -> &str {
        &self.uri.authority.userinfo.username
    }

    /// The address without credentials.
    pub(super) fn server(&self) -> String {
        let AMQPAuthority { host, port, .. } = &self.uri.authority;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    async fn connect_once(&self, time: Duration) -> Result<LiveConnection, ConnectFailure> {
        let tls = self.options.endpoint.tls().read().map_err(|error| ConnectFailure::Setting(error.to_string()))?;
        let connect = async {
            let properties = ConnectionProperties::default().with_connection_name(self.name.as_str().into());
            let greeting = Greeting::default();
            let connection =
                transport::connect(self.uri.clone(), properties, tls_config(tls), greeting.clone()).await?;
            // An error here concerns the topology, and not the connection.
            let declared = self.topology.ensure(&connection, self.declaring).await;
            Ok::<_, lapin::Error>((LiveConnection::new(connection, greeting), declared))
        };
        match timeout(time, connect).await {
            Ok(Ok((live, Ok(())))) => Ok(live),
            Ok(Ok((_, Err(error)))) => Err(ConnectFailure::Server(cause(&error), while_declaring(classify(&error)))),
            Ok(Err(error)) => Err(ConnectFailure::Server(cause(&error), classify(&error))),
            Err(_) => Err(ConnectFailure::Server("no answer".to_owned(), FailureKind::Transient)),
        }
    }

    /// The error of a failure after so long.
    fn error(&self, failure: ConnectFailure, waited: Duration) -> BrokerError {
        self.permanent_error(&failure).unwrap_or_else(|| {
            let (server, waited, cause) = (self.server(), seconds(waited), failure.cause());
            BrokerError::Unreachable(format!(
                "cannot reach RabbitMQ at {server} within {waited} ({cause}): check AMQP_URL"
            ))
        })
    }

    /// The error for a permanent failure; `None` for a transient one.
    fn permanent_error(&self, refusal: &ConnectFailure) -> Option<BrokerError> {
        let (server, user) = (self.server(), self.user());
        let (cause, kind) = match refusal {
            ConnectFailure::Setting(problem) => return Some(BrokerError::Usage(problem.clone())),
            ConnectFailure::Server(cause, kind) => (cause, kind),
        };
        Some(BrokerError::Usage(match kind {
            FailureKind::Transient => return None,
            FailureKind::Refused => {
                format!("RabbitMQ at {server} refuses user `{user}` ({cause}): check user and password in AMQP_URL")
            }
            FailureKind::Tls(trouble) => {
                format!("cannot connect to RabbitMQ at {server} by TLS ({cause}): {}", trouble.remedy(TLS_PREFIX))
            }
            FailureKind::NotAllowed => format!(
                "RabbitMQ at {server} does not let user `{user}` declare the queues ({cause}): use a user who may configure them"
            ),
            FailureKind::Missing => format!(
                "RabbitMQ at {server} lacks a queue or exchange that user `{user}` may not declare ({cause}): run \
                 `assay declare` as a user who may"
            ),
            FailureKind::NoVirtualHost => {
                format!("RabbitMQ at {server} refuses the virtual host ({cause}): check AMQP_URL")
            }
            FailureKind::DeclaredOtherwise => self.declared_otherwise(cause),
        }))
    }
}

enum ConnectFailure {
    /// A setting is wrong; RabbitMQ was not asked.
    Setting(String),
    /// RabbitMQ refused, or was not reached.
    Server(String, FailureKind),
}

impl ConnectFailure {
    fn cause(self) -> String {
        match self {
            Self::Setting(cause) | Self::Server(cause, _) => cause,
        }
    }
}

/// What a failure means while queues are declared, after the user was accepted.
fn while_declaring(kind: FailureKind) -> FailureKind {
    match kind {
        FailureKind::Refused => FailureKind::NotAllowed,
        kind => kind,
    }
}

fn tls_config(TlsMaterial { authorities, identity }: TlsMaterial) -> OwnedTLSConfig {
    OwnedTLSConfig {
        cert_chain: authorities,
        identity: identity.map(|identity| OwnedIdentity::PKCS8 {
            pem: identity.certificates,
            key: identity.key.expose_secret().to_vec(),
        }),
    }
}

/// A connection that is up, or was until just now.
pub(super) struct LiveConnection {
    connection: Connection,
    /// What the server said of itself.
    pub(super) greeting: Greeting,
    /// Whether RabbitMQ has blocked publishing, as it is short of memory or disk.
    blocked: watch::Sender<bool>,
    /// Why a user of the connection gave it up.
    abandoned: Mutex<Option<String>>,
    recheck: Notify,
    /// Fires once the connection is lost.
    pub(super) lost: CancellationToken,
}

impl LiveConnection {
    fn new(connection: Connection, greeting: Greeting) -> Self {
        Self {
            connection,
            greeting,
            blocked: watch::Sender::new(false),
            abandoned: Mutex::default(),
            recheck: Notify::new(),
            lost: CancellationToken::new(),
        }
    }

    pub(super) async fn channel(&self) -> lapin::Result<Channel> {
        self.connection.create_channel().await
    }

    /// Declares the topology again, after something was missing.
    pub(super) async fn declare(&self, settings: &ConnectionSettings) -> Result<(), String> {
        self.attempt(settings.request_timeout, settings.topology.ensure(&self.connection, settings.declaring)).await
    }

    /// Sends a request. It fails when the connection is lost; the client does not guarantee that.
    pub(super) async fn attempt<T>(
        &self,
        request_timeout: Duration,
        request: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, String> {
        tokio::select! {
            biased;
            () = self.lost.cancelled() => Err("connection lost".to_owned()),
            answer = timeout(request_timeout, request) => match answer {
                Ok(answer) => answer.map_err(|error| cause(&error)),
                Err(_) => Err("no answer".to_owned()),
            },
        }
    }

    pub(super) fn blocked(&self) -> watch::Receiver<bool> {
        self.blocked.subscribe()
    }

    pub(super) fn is_up(&self) -> bool {
        !self.lost.is_cancelled() && self.connection.status().connected()
    }

    /// Gives the connection up, to be replaced by another one.
    pub(super) fn abandon(&self, cause: String) {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(cause);
        self.recheck.notify_one();
    }

    async fn until_lost(&self) -> ConnectionLoss {
        let mut events = Box::pin(self.connection.events_listener());
        let mut latest = None;
        loop {
            if let Some(cause) = self.abandoned.lock().unwrap_or_else(PoisonError::into_inner).clone() {
                return ConnectionLoss { cause, is_unreadable: false };
            }
            if !self.connection.status().connected() {
                return latest.unwrap_or_else(|| "connection closed".into());
            }
            tokio::select! {
                () = self.recheck.notified() => {}
                () = tokio::time::sleep(CHECK_EVERY) => {}
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => {
                        warn!("RabbitMQ blocked publishing ({reason}); waiting");
                        self.blocked.send_replace(true);
                        metrics::set_publishing_blocked(true);
                    }
                    Some(Event::ConnectionUnblocked) => {
                        info!("RabbitMQ unblocked publishing");
                        self.blocked.send_replace(false);
                        metrics::set_publishing_blocked(false);
                    }
                    // Of a channel or of the connection; `connected` shows which.
                    Some(Event::Error(error)) => {
                        latest = Some(ConnectionLoss { cause: cause(&error), is_unreadable: is_unreadable(&error) });
                    }
                    Some(_) => {}
                    None => return latest.unwrap_or_else(|| "connection closed".into()),
                },
            }
        }
    }
}

/// A connection, and the task that replaces it when it is lost.
pub(super) struct PersistentConnection {
    pub(super) settings: Arc<ConnectionSettings>,
    current: watch::Receiver<Option<Arc<LiveConnection>>>,
    closing: CancellationToken,
    task: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl PersistentConnection {
    pub(super) async fn open(settings: &Arc<ConnectionSettings>, startup: Duration) -> Result<Self, BrokerError> {
        let is_retryable = |failure: &ConnectFailure| settings.permanent_error(failure).is_none();
        let connect = |time| settings.connect_once(time);
        let live = retry::at_startup(CONNECT, startup, CONNECT_TIMEOUT, connect, is_retryable).await;
        Ok(Self::keep(settings, live.map_err(|failure| settings.error(failure, startup))?))
    }

    /// As [`open`](Self::open), by one attempt.
    pub(super) async fn open_once(settings: &Arc<ConnectionSettings>, limit: Duration) -> Result<Self, BrokerError> {
        let live = settings.connect_once(limit).await;
        Ok(Self::keep(settings, live.map_err(|failure| settings.error(failure, limit))?))
    }

    fn keep(settings: &Arc<ConnectionSettings>, live: LiveConnection) -> Self {
        let live = Arc::new(live);
        let (sender, current) = watch::channel(Some(Arc::clone(&live)));
        let closing = CancellationToken::new();
        let task = tokio::spawn(reconnect_when_lost(Arc::clone(settings), live, sender, closing.clone()));
        Self { settings: Arc::clone(settings), current, closing, task: Mutex::new(Some(task)) }
    }

    /// The connection, once there is one; `None` after [`close`](Self::close).
    pub(super) async fn live(&self) -> Option<Arc<LiveConnection>> {
        let mut current = self.current.clone();
        loop {
            {
                let live = current.wait_for(Option::is_some).await.ok()?;
                if let Some(live) = live.as_ref().filter(|live| !live.lost.is_cancelled()) {
                    return Some(Arc::clone(live));
                }
            }
            current.changed().await.ok()?;
        }
    }

    /// Whether RabbitMQ is connected and accepts messages; if not, why.
    pub(super) fn health(&self) -> Result<(), String> {
        let server = self.settings.server();
        match &*self.current.borrow() {
            Some(live) if live.is_up() && *live.blocked.borrow() => Err(self.settings.blocks_publishing()),
            Some(live) if live.is_up() => Ok(()),
            _ => Err(format!("no connection to RabbitMQ at {server}; reconnecting")),
        }
    }

    /// Repeats `consume` until it succeeds, and declares what may be missing. `None` after [`close`](Self::close).
    pub(super) async fn retry_subscribe<T, F>(
        &self,
        queue: &str,
        consume: impl Fn(Arc<LiveConnection>) -> F + Send,
    ) -> Option<T>
    where
        F: Future<Output = lapin::Result<T>> + Send,
    {
        let mut backoff = RETRY.backoff();
        let mut logged = false;
        loop {
            let live = self.live().await?;
            let failure = match live.attempt(self.settings.request_timeout, consume(Arc::clone(&live))).await {
                Ok(consuming) => return Some(consuming),
                Err(cause) => cause,
            };
            if failure.starts_with(NOT_ALLOWED) && !logged {
                warn!("RabbitMQ does not let the user of AMQP_URL consume from {queue} ({failure}): grant it");
                logged = true;
            }
            debug!(queue, "cannot consume yet ({failure})");
            if live.is_up() {
                // Most likely the queue is missing; if not, this does no harm.
                let _ = live.declare(&self.settings).await;
            }
            backoff.pause().await;
        }
    }

    pub(super) async fn depth(&self, queue: ShortString) -> Result<QueueCounts, BrokerError> {
        let unreachable = |cause: String| {
            BrokerError::Unreachable(format!(
                "cannot ask RabbitMQ at {} for the depth of {queue} ({cause})",
                self.settings.server()
            ))
        };
        let answer = timeout(self.settings.request_timeout, async {
            let live = self.live().await.ok_or_else(|| "connection closed".to_owned())?;
            let ask = async {
                let channel = live.channel().await?;
                let declared = find_queue(&channel, queue.clone()).await?;
                channel.close(REPLY_SUCCESS, "OK".into()).await?;
                Ok(declared)
            };
            live.attempt(self.settings.request_timeout, ask).await
        });
        let queue = answer.await.unwrap_or_else(|_| Err("no connection".to_owned())).map_err(unreachable)?;
        Ok(QueueCounts { messages: queue.message_count().into(), consumers: queue.consumer_count() })
    }

    /// Disconnects, cleanly if possible.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // It ends by itself, within its own timeout.
            let _ = task.await;
        }
    }
}

impl Drop for PersistentConnection {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

async fn reconnect_when_lost(
    settings: Arc<ConnectionSettings>,
    mut live: Arc<LiveConnection>,
    current: watch::Sender<Option<Arc<LiveConnection>>>,
    closing: CancellationToken,
) {
    let server = settings.server();
    let mut backoff = ReconnectBackoff::default();
    loop {
        let since = Instant::now();
        let loss = tokio::select! {
            () = closing.cancelled() => break,
            loss = live.until_lost() => loss,
        };
        live.lost.cancel();
        if live.blocked.send_replace(false) {
            // RabbitMQ tells the next connection itself.
            metrics::set_publishing_blocked(false);
        }
        current.send_replace(None);
        settings.outage.began(&server, &loss.cause);
        metrics::connection_lost();
        let pause = backoff.pause(&server, &loss, since.elapsed());
        let again = async {
            tokio::time::sleep(pause).await;
            connect_again(&settings).await
        };
        let Some(again) = closing.run_until_cancelled(again).await else { return };
        live = Arc::new(again);
        current.send_replace(Some(Arc::clone(&live)));
        settings.outage.ended(&server);
    }
    live.lost.cancel();
    drop(current);
    let goodbye = live.connection.close(REPLY_SUCCESS, "OK".into());
    // The connection ends in any case.
    let _ = timeout(Duration::from_secs(5).min(settings.request_timeout), goodbye).await;
}

async fn connect_again(settings: &ConnectionSettings) -> LiveConnection {
    let mut logged = false;
    let mut backoff = RECONNECT.backoff();
    loop {
        match settings.connect_once(CONNECT_TIMEOUT).await {
            Ok(live) => return live,
            Err(refusal) => {
                // At startup this would end the program; later it is logged for the operator.
                if let Some(error) = settings.permanent_error(&refusal).filter(|_| !logged) {
                    warn!("{error}");
                    logged = true;
                }
            }
        }
        backoff.pause().await;
    }
}

fn seconds(duration: Duration) -> String {
    if duration.subsec_nanos() == 0 {
        format!("{} s", duration.as_secs())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}
