//! Bucket events from SQS (feature `sqs`).
//!
//! Guarantee: a message that is not deleted is delivered again after its visibility timeout.

use std::time::Duration;

use assay_connect::{AddressForm, ExposeSecret as _};
use aws_config::Region;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::Credentials;

use crate::options::S3Settings;
use crate::s3::{root_cause, sdk_config};
use crate::{S3Options, SourceError};

/// Long-poll wait: the longest that SQS allows.
const WAIT_SECONDS: i32 = 20;
/// Longest wait for the response beyond that.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

const FORM: AddressForm = AddressForm {
    name: "SQS_QUEUE_URL",
    schemes: &["http", "https"],
    of: "a queue of SQS",
    example: "https://sqs.eu-west-1.amazonaws.com/123456789012/drops",
};

/// A failed SQS request. A retry may succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot use the queue {url} ({cause}): check SQS_QUEUE_URL, AWS_REGION and the permissions of the access key")]
pub struct SqsError {
    url: String,
    cause: String,
}

/// An SQS queue.
#[derive(Debug, Clone)]
pub struct SqsQueue {
    client: Client,
    url: String,
}

/// A received message, invisible to others for the queue's visibility timeout.
#[derive(Debug)]
pub struct SqsMessage {
    /// Its content.
    pub body: String,
    receipt: String,
    queue: SqsQueue,
}

impl SqsQueue {
    /// Opens the queue at a URL, which also names the server. KEY and SECRET sign requests, otherwise the AWS chain.
    /// Sends nothing yet.
    pub async fn connect(url: &str, options: &S3Options) -> Result<Self, SourceError> {
        // It appears in messages, so it may hold neither user nor password.
        let url = crate::options::endpoint(&FORM, url)?;
        let parsed = url::Url::parse(&url).map_err(|_| FORM.wrong("HTTP clients cannot read it"))?;
        let settings = options.settle()?;
        let config = sdk_config(&S3Settings { credentials: None, ..settings.clone() }).await;
        let read_timeout = Duration::from_secs(WAIT_SECONDS.unsigned_abs().into()) + ANSWER_TIMEOUT;
        let timeouts = TimeoutConfig::builder().connect_timeout(ANSWER_TIMEOUT).read_timeout(read_timeout).build();
        let mut client = aws_sdk_sqs::config::Builder::from(&config)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::disabled())
            .endpoint_url(parsed.origin().ascii_serialization());
        if let Some(region) = region_of(&parsed) {
            client = client.region(Region::new(region));
        } else if config.region().is_none() {
            return Err(SourceError::Setting("no region for SQS: set AWS_REGION".to_owned()));
        }
        if let Some((key, secret)) = settings.credentials {
            let (key, secret) = (key.expose_secret(), secret.expose_secret());
            client = client.credentials_provider(Credentials::new(key, secret, None, None, "KEY and SECRET"));
        }
        Ok(Self { client: Client::from_conf(client.build()), url })
    }

    /// The next message; none if none arrived in time. A cancelled call may have taken one, which is delivered again.
    pub async fn receive(&self) -> Result<Option<SqsMessage>, SqsError> {
        let request = self.client.receive_message().queue_url(&self.url);
        let answer = request.max_number_of_messages(1).wait_time_seconds(WAIT_SECONDS).send().await;
        let answer = answer.map_err(|error| self.failed(&error))?;
        let message = answer.messages.unwrap_or_default().into_iter().next();
        Ok(message.and_then(|message| {
            let (body, receipt) = (message.body?, message.receipt_handle?);
            Some(SqsMessage { body, receipt, queue: self.clone() })
        }))
    }

    fn failed(&self, error: &(dyn std::error::Error + 'static)) -> SqsError {
        SqsError { url: self.url.clone(), cause: root_cause(error) }
    }
}

impl SqsMessage {
    /// Deletes the message from the queue.
    pub async fn delete(self) -> Result<(), SqsError> {
        let Self { receipt, queue: SqsQueue { client, url }, .. } = &self;
        let deleted = client.delete_message().queue_url(url).receipt_handle(receipt).send().await;
        deleted.map(drop).map_err(|error| self.queue.failed(&error))
    }
}

/// The region in the address of an AWS queue.
fn region_of(url: &url::Url) -> Option<String> {
    let mut parts = url.host_str()?.split('.');
    (parts.next()? == "sqs").then(|| parts.next().map(str::to_owned)).flatten()
}
