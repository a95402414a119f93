//! Events that come through a queue of SQS, in programs that are built with the feature `sqs`.
//!
//! Guarantee: a message that is not deleted is delivered again, once its visibility timeout has passed.

use std::time::Duration;

use assay_credentials::AddressForm;
use aws_config::Region;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::Credentials;

use crate::options::S3Settings;
use crate::s3::{root_cause, sdk_config};
use crate::{S3Options, SourceError};

/// How long an answer waits for a message: the longest that SQS allows.
const WAIT_SECONDS: i32 = 20;
/// How long the answer itself may take beyond that.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

const FORM: AddressForm = AddressForm {
    name: "SQS_QUEUE_URL",
    schemes: &["http", "https"],
    of: "a queue of SQS",
    example: "https://sqs.eu-west-1.amazonaws.com/123456789012/drops",
};

/// Why SQS did not do what it was asked to. Trying again later may help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot use the queue {url} ({cause}): check SQS_QUEUE_URL, AWS_REGION and the rights of the access key")]
pub struct SqsError {
    url: String,
    cause: String,
}

/// A queue.
#[derive(Debug, Clone)]
pub struct SqsQueue {
    client: Client,
    url: String,
}

/// A message that somebody holds, for as long as the queue's visibility timeout.
#[derive(Debug)]
pub struct SqsMessage {
    /// What is said.
    pub body: String,
    receipt: String,
    queue: SqsQueue,
}

impl SqsQueue {
    /// The queue of that URL, which says where SQS is, too. KEY and SECRET sign requests, or the AWS chain does. Asks nothing
    /// of SQS yet.
    pub async fn connect(url: &str, options: &S3Options) -> Result<Self, SourceError> {
        // It is shown in messages, so it may hold no user and no password either.
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
            client = client.credentials_provider(Credentials::new(key, secret, None, None, "KEY and SECRET"));
        }
        Ok(Self { client: Client::from_conf(client.build()), url })
    }

    /// The next message; none where none came for a while. Cancelled, it may have taken one all the same, which comes again.
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
    /// Takes the message out of the queue.
    pub async fn delete(self) -> Result<(), SqsError> {
        let Self { receipt, queue: SqsQueue { client, url }, .. } = &self;
        let deleted = client.delete_message().queue_url(url).receipt_handle(receipt).send().await;
        deleted.map(drop).map_err(|error| self.queue.failed(&error))
    }
}

/// The region in the address of a queue of AWS.
fn region_of(url: &url::Url) -> Option<String> {
    let mut parts = url.host_str()?.split('.');
    (parts.next()? == "sqs").then(|| parts.next().map(str::to_owned)).flatten()
}
