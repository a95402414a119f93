//! Messages of external producers: plain JSON, without a type of ours, on the realtime lane.
//!
//! The producer is the message's `app_id`, mapped by `PRODUCER_ALIASES`. The day is that of its `timestamp`, else of its
//! arrival. The name is its `message_id`, else the hash of its body.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use assay_queue::Message;
use assay_transaction::{Day, IdScheme, LiveId, LiveMessage, LiveRules, Producer, RunSettings, split_transactions};
use chrono::{DateTime, TimeDelta, Utc};

use crate::LiveOptions;
use crate::id_scheme::KnownIdScheme;

/// The longest body: as large as many requests to the ML API.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// How far from now a message's time of sending may be.
const MAX_CLOCK_SKEW: TimeDelta = TimeDelta::days(2);
/// Producers whose rules are cached: more than send at a time.
const MAX_PRODUCERS: usize = 256;

/// Reads and validates messages of external producers.
pub(crate) struct ExternalReader {
    options: LiveOptions,
    ids: Arc<KnownIdScheme>,
    /// The rules of each producer, cached as they are expensive to create.
    rules: Mutex<HashMap<(Producer, IdScheme), Arc<LiveRules>>>,
}

impl ExternalReader {
    pub(crate) fn new(options: LiveOptions, ids: Arc<KnownIdScheme>) -> Self {
        Self { options, ids, rules: Mutex::default() }
    }

    /// Reads and validates one message, once the scheme of its ids is known; the error is the reason for a dead letter.
    pub(crate) async fn read(&self, message: &Message) -> Result<LiveMessage, String> {
        let ids = self.ids.get().await;
        self.read_by(ids, message)
    }

    fn read_by(&self, ids: IdScheme, message: &Message) -> Result<LiveMessage, String> {
        if message.body.len() > MAX_BODY_BYTES {
            return Err(format!(
                "the body has {} bytes, more than {MAX_BODY_BYTES}: send several messages",
                message.body.len()
            ));
        }
        let producer = self.options.producer(&message.app_id);
        let rules = self.rules(&producer, ids)?;
        let day = Day::of(sent_at(message, Utc::now()));
        let id = LiveId::new(producer, day, message.id.clone(), &message.body, false);
        let (mut transactions, mut rejected) = (Vec::new(), Vec::new());
        let rows = split_transactions(&message.body).map_err(|error| error.to_string())?;
        for (row, json) in (1..).zip(rows) {
            match rules.judge(row, json).map_err(|error| error.to_string())? {
                Ok(entry) => transactions.push(entry),
                Err(row) => rejected.push(row),
            }
        }
        Ok(LiveMessage { id, ids, transactions, rejected })
    }

    /// The rules of a producer. The cache is bounded, as anyone may invent names of producers.
    fn rules(&self, producer: &Producer, ids: IdScheme) -> Result<Arc<LiveRules>, String> {
        let mut cache = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (producer.clone(), ids);
        if let Some(rules) = cache.get(&key) {
            return Ok(Arc::clone(rules));
        }
        let LiveOptions { time_zone, id_namespace, .. } = &self.options;
        let settings = RunSettings::live_read_in(producer, *time_zone, id_namespace.as_deref(), ids);
        let rules = LiveRules::new(&settings).map_err(|error| error.to_string())?;
        if cache.len() >= MAX_PRODUCERS {
            cache.clear();
        }
        let rules = Arc::new(rules);
        cache.insert(key, Arc::clone(&rules));
        Ok(rules)
    }
}

/// When a message was sent, by its own account if that is credible, else now.
fn sent_at(message: &Message, now: DateTime<Utc>) -> DateTime<Utc> {
    let said = message.sent_at.and_then(|seconds| DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0));
    // Milliseconds instead of seconds are thousands of years away.
    said.filter(|said| (*said - now).abs() <= MAX_CLOCK_SKEW).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use assay_transaction::{IdentitiesNotice, RejectReason};
    use futures_util::FutureExt as _;

    use super::*;

    fn message(body: &str) -> Message {
        let mut message = Message::new("m-1", "", &"x".parse().unwrap(), body.to_owned());
        message.app_id = "till 7".to_owned();
        message.sent_at = Some(yesterday().timestamp().unsigned_abs());
        message
    }

    fn yesterday() -> DateTime<Utc> {
        Utc::now() - TimeDelta::hours(30)
    }

    fn reader(options: LiveOptions) -> ExternalReader {
        ExternalReader::new(options, Arc::new(KnownIdScheme::known(IdScheme::V8)))
    }

    /// The result of reading, which must not wait.
    fn read(external: &ExternalReader, message: &Message) -> Result<LiveMessage, String> {
        external.read(message).now_or_never().expect("the scheme is known")
    }

    #[tokio::test]
    async fn a_message_is_read_once_the_scheme_is_known() {
        let body = r#"{"id":"4711","description":"x","amount":1,"timestamp":"2026-01-11 10:00:00","operation_type":"payment","side":"debit"}"#;
        let ids = Arc::new(KnownIdScheme::default());
        let external = ExternalReader::new(LiveOptions::default(), Arc::clone(&ids));
        let message = message(body);
        let mut reading = std::pin::pin!(external.read(&message));
        assert!(reading.as_mut().now_or_never().is_none(), "it waits for a notice");
        let notice =
            |scheme: &str| Message::without_run(IdentitiesNotice::MESSAGE_TYPE, format!(r#"{{"ids":{scheme}}}"#));
        ids.receive(&notice("8"));
        let first = reading.await.unwrap();
        ids.receive(&notice("5"));
        let second = external.read(&message).await.unwrap();
        let version = |live: &LiveMessage| live.transactions[0].transaction.id().unwrap().get_version_num();
        assert_eq!((first.ids, version(&first)), (IdScheme::V8, 8));
        assert_eq!((second.ids, version(&second)), (IdScheme::V5, 5));
    }

    #[test]
    fn an_impossible_time_is_ignored() {
        let noon: DateTime<Utc> = "2026-01-11T12:00:00Z".parse().unwrap();
        for (said, expected) in [
            (None, noon),
            (Some(1_768_046_400), "2026-01-10T12:00:00Z".parse().unwrap()),
            // In milliseconds, and years away.
            (Some(1_768_046_400_000), noon),
            (Some(0), noon),
            (Some(u64::MAX), noon),
        ] {
            assert_eq!(sent_at(&Message { sent_at: said, ..message("{}") }, noon), expected, "{said:?}");
        }
    }

    #[test]
    fn plain_json_is_validated_and_named_after_its_producer_and_day() {
        let good = r#"{"id":1,"description":"Café","amount":12.50,"timestamp":"2026-01-11 10:00:00","operation_type":"payment","side":"debit"}"#;
        let body = format!("[{good}, {}]", good.replace("12.50", "12.50001"));
        let external = reader(LiveOptions::default());
        let read = |message: Message| read(&external, &message);
        let live = read(message(&body)).unwrap();
        let run = format!("amqp_till-7-7bdb95b7_{}", Day::of(yesterday()).to_string().replace('-', ""));
        assert_eq!((live.id.run_id().as_str(), live.id.message.as_str()), (run.as_str(), "m-1"));
        assert_eq!((live.transactions.len(), &live.rejected[0].reason), (1, &RejectReason::AmountScale));
        assert_eq!(live.rejected[0].row, 2);
        let nameless = Message { id: String::new(), ..message(&body) };
        assert_eq!(read(nameless).unwrap().id.message, live.id.digest.to_string());
        for (body, reason) in [("", "no transaction"), ("[]", "no transaction"), ("7", "neither a JSON object")] {
            let error = read(message(body)).unwrap_err();
            assert!(error.contains(reason), "{body}: {error}");
        }
    }

    #[test]
    fn producers_with_similar_names_have_separate_ids() {
        let body = r#"{"id":"4711","description":"x","amount":1,"timestamp":"2026-01-11 10:00:00","operation_type":"payment","side":"debit"}"#;
        let read = |options: &LiveOptions, app_id: &str| {
            let message = Message { app_id: app_id.to_owned(), ..message(body) };
            let live = super::tests::read(&reader(options.clone()), &message).unwrap();
            (live.id.producer.to_string(), live.transactions[0].transaction.id().unwrap())
        };
        let options = LiveOptions::default();
        let clean = read(&options, "till-7");
        for app_id in ["till 7", "till/7", "till-7 "] {
            let (producer, id) = read(&options, app_id);
            assert!(producer.starts_with("till-7-") && id != clean.1, "{app_id}: {producer}");
        }
        // An alias keeps the name, and so the ids, that earlier versions derived.
        let kept = LiveOptions { producer_aliases: vec!["till 7=till-7".parse().unwrap()], ..options };
        assert_eq!(read(&kept, "till 7"), clean);
        assert_ne!(read(&kept, "till/7"), clean);
    }

    #[test]
    fn the_cache_of_rules_is_bounded() {
        let external = reader(LiveOptions::default());
        for name in 0..=MAX_PRODUCERS {
            let message = Message { app_id: format!("till {name}"), ..message("{}") };
            assert_eq!(read(&external, &message).unwrap().id.producer, Producer::of_application(&message.app_id));
            let kept = external.rules.lock().unwrap().len();
            assert!((1..=MAX_PRODUCERS).contains(&kept), "{kept}");
        }
        let large = Message { app_id: "new".to_owned(), ..message(&" ".repeat(MAX_BODY_BYTES + 1)) };
        assert!(read(&external, &large).unwrap_err().contains("send several"));
        assert!(
            !external.rules.lock().unwrap().contains_key(&(Producer::of_application("new"), IdScheme::V8)),
            "it is rejected before its producer is looked up"
        );
    }
}
