//! Configures whom a bucket notifies of new objects: one rule of ours; other rules stay unchanged.

use aws_sdk_s3::operation::get_bucket_notification_configuration::GetBucketNotificationConfigurationOutput;
use aws_sdk_s3::types::{
    Event, FilterRule, FilterRuleName, NotificationConfiguration, NotificationConfigurationFilter, QueueConfiguration,
    S3KeyFilter,
};

use crate::{SourceError, Sources};

/// Id of our rules, followed by their prefix.
const RULE_ID: &str = "assay-watch";
/// The default AMQP targets of RustFS and MinIO.
const USUAL_TARGETS: [&str; 2] = ["arn:rustfs:sqs:us-east-1:primary:amqp", "arn:minio:sqs::primary:amqp"];

/// A configured notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketNotification {
    /// The target.
    pub arn: String,
    /// Whether it was configured before.
    pub was_there: bool,
    /// Number of other rules.
    pub others: usize,
}

impl Sources {
    /// Makes a bucket notify a target of objects created under a prefix. Without an ARN, tries the default AMQP targets
    /// of RustFS and MinIO. Keeps other rules.
    pub async fn notify(
        &self,
        bucket: &str,
        prefix: &str,
        arn: Option<&str>,
    ) -> Result<BucketNotification, SourceError> {
        let s3 = self.s3().await?;
        if s3.aws_region().is_some() && arn.is_none() {
            let text = "AWS has no default target for events: give the ARN of an SQS queue with --arn";
            return Err(SourceError::Setting(text.to_owned()));
        }
        let found = self.notifications(bucket).await?;
        let arns: Vec<&str> = arn.map_or(USUAL_TARGETS.to_vec(), |arn| vec![arn]);
        let others = |ours: usize| count_rules(&found) - ours;
        if let Some(rule) = found.queue_configurations().iter().find(|rule| {
            arns.contains(&rule.queue_arn())
                && covers_prefix(rule, prefix)
                && rule.events().contains(&Event::S3ObjectCreated)
        }) {
            return Ok(BucketNotification { arn: rule.queue_arn().to_owned(), was_there: true, others: others(1) });
        }
        let is_ours = |rule: &&QueueConfiguration| has_our_id(rule) && covers_prefix(rule, prefix);
        let ours = found.queue_configurations().iter().filter(is_ours).count();
        let mut last = None;
        for arn in &arns {
            let mut configuration = without_rules(found.clone(), is_ours);
            let rules = configuration.queue_configurations.get_or_insert_default();
            rules.push(new_rule(arn, prefix)?);
            match self.set_notifications(bucket, configuration).await {
                Ok(()) => {
                    return Ok(BucketNotification { arn: (*arn).to_owned(), was_there: false, others: others(ours) });
                }
                // The usual answer if the target does not exist.
                Err(error @ (SourceError::Refused { .. } | SourceError::NoObject { .. })) => last = Some(error),
                // RustFS without any target.
                Err(error @ SourceError::Unreachable { .. }) if error.to_string().contains("(500 ") => {
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        let cause = last.map_or_else(String::new, |error| match error {
            SourceError::Refused { cause, .. } | SourceError::Unreachable { cause, .. } => cause,
            error => error.to_string(),
        });
        Err(SourceError::NoEventTarget { bucket: bucket.to_owned(), arns: arns.join(" and "), cause })
    }

    /// Removes our rules for a prefix; returns how many were removed and how many others remain.
    pub async fn stop_notifying(
        &self,
        bucket: &str,
        prefix: &str,
        arn: Option<&str>,
    ) -> Result<(usize, usize), SourceError> {
        let found = self.notifications(bucket).await?;
        let all = count_rules(&found);
        let is_ours = |rule: &&QueueConfiguration| {
            covers_prefix(rule, prefix)
                && (has_our_id(rule)
                    || arn.map_or(USUAL_TARGETS.contains(&rule.queue_arn()), |arn| rule.queue_arn() == arn))
        };
        let ours = found.queue_configurations().iter().filter(is_ours).count();
        if ours > 0 {
            self.set_notifications(bucket, without_rules(found.clone(), is_ours)).await?;
        }
        Ok((ours, all - ours))
    }

    async fn notifications(&self, bucket: &str) -> Result<GetBucketNotificationConfigurationOutput, SourceError> {
        let (s3, location) = (self.s3().await?, format!("s3://{bucket}"));
        let found = Box::pin(s3.client.get_bucket_notification_configuration().bucket(bucket).send()).await;
        found.map_err(|error| s3.target(bucket, &location).error(&error))
    }

    async fn set_notifications(&self, bucket: &str, rules: NotificationConfiguration) -> Result<(), SourceError> {
        let (s3, location) = (self.s3().await?, format!("s3://{bucket}"));
        let request = s3.client.put_bucket_notification_configuration().bucket(bucket);
        let set = Box::pin(request.notification_configuration(rules).send()).await;
        set.map(drop).map_err(|error| s3.target(bucket, &location).error(&error))
    }
}

fn count_rules(found: &GetBucketNotificationConfigurationOutput) -> usize {
    found.queue_configurations().len()
        + found.topic_configurations().len()
        + found.lambda_function_configurations().len()
}

/// The configuration without some of its queue rules.
fn without_rules(
    found: GetBucketNotificationConfigurationOutput,
    is_left_out: impl Fn(&&QueueConfiguration) -> bool,
) -> NotificationConfiguration {
    let queues = found.queue_configurations.unwrap_or_default();
    let queues = queues.into_iter().filter(|rule| !is_left_out(&rule)).collect();
    NotificationConfiguration::builder()
        .set_queue_configurations(Some(queues))
        .set_topic_configurations(found.topic_configurations)
        .set_lambda_function_configurations(found.lambda_function_configurations)
        .set_event_bridge_configuration(found.event_bridge_configuration)
        .build()
}

fn new_rule(arn: &str, prefix: &str) -> Result<QueueConfiguration, SourceError> {
    let id = if prefix.is_empty() { RULE_ID.to_owned() } else { format!("{RULE_ID}-{prefix}") };
    let only = (!prefix.is_empty()).then(|| {
        let rule = FilterRule::builder().name(FilterRuleName::Prefix).value(prefix).build();
        NotificationConfigurationFilter::builder().key(S3KeyFilter::builder().filter_rules(rule).build()).build()
    });
    let rule = QueueConfiguration::builder().id(id).queue_arn(arn).events(Event::S3ObjectCreated).set_filter(only);
    rule.build().map_err(|error| SourceError::Setting(format!("cannot create a rule for {arn} ({error}): check --arn")))
}

fn has_our_id(rule: &QueueConfiguration) -> bool {
    rule.id().is_some_and(|id| id == RULE_ID || id.starts_with(&format!("{RULE_ID}-")))
}

/// Whether a rule covers exactly this prefix.
fn covers_prefix(rule: &QueueConfiguration, prefix: &str) -> bool {
    let filter = rule.filter().and_then(|filter| filter.key()).map(S3KeyFilter::filter_rules).unwrap_or_default();
    let is_prefix = |name: Option<&FilterRuleName>| {
        name.is_some_and(|name| name.as_str().eq_ignore_ascii_case(FilterRuleName::Prefix.as_str()))
    };
    let mut rest = filter.iter().filter(|rule| !rule.value().unwrap_or_default().is_empty());
    match (rest.next(), rest.next()) {
        (None, _) => prefix.is_empty(),
        (Some(rule), None) => is_prefix(rule.name()) && rule.value() == Some(prefix),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_rule_is_found_again_and_others_stay() {
        let ours = new_rule("arn:a", "2026/").unwrap();
        assert!(
            has_our_id(&ours)
                && covers_prefix(&ours, "2026/")
                && !covers_prefix(&ours, "")
                && !covers_prefix(&ours, "2026/0")
        );
        let all = new_rule("arn:a", "").unwrap();
        assert!(has_our_id(&all) && covers_prefix(&all, "") && !covers_prefix(&all, "2026/"));
        let other = QueueConfiguration::builder().id("x").queue_arn("arn:b").events(Event::S3ObjectRemoved);
        let other = other.build().unwrap();
        let found = GetBucketNotificationConfigurationOutput::builder()
            .set_queue_configurations(Some(vec![ours, all.clone(), other.clone()]))
            .build();
        let left = without_rules(found, |rule| has_our_id(rule) && covers_prefix(rule, "2026/"));
        assert_eq!(left.queue_configurations(), [all, other]);
    }
}
