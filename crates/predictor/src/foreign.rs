//! What other people's producers send: plain JSON, without a type of ours, on the realtime lane.
//!
//! The producer is the message's `app_id`, its day that of its `timestamp`, or else of its arrival here; its name is its
//! `message_id`, or else the hash of its body.

use assay_queue::Message;
use assay_transaction::{Day, LiveId, LiveMessage, LiveRules, Producer, RunSettings, split_transactions};
use chrono::{DateTime, TimeDelta, Utc};

use crate::LiveOptions;

/// The longest body: what is held at a time is bounded in number, and so in bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// How far from now a message may say that it was sent.
const CREDIBLE: TimeDelta = TimeDelta::days(2);

/// Reads and judges one; the error is the reason for a dead letter.
pub(crate) fn read(message: &Message, options: &LiveOptions) -> Result<LiveMessage, String> {
    let producer = Producer::of_application(&message.app_id);
    let settings = RunSettings::live_read_in(&producer, options.time_zone, options.id_namespace.as_deref());
    let rules = LiveRules::new(&settings).map_err(|error| error.to_string())?;
    if message.body.len() > MAX_BODY_BYTES {
        return Err(format!("its body has {} bytes, more than {MAX_BODY_BYTES}: send several", message.body.len()));
    }
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
    Ok(LiveMessage { id, transactions, rejected })
}

/// When a message was sent: what it says, where that may be, else now.
fn sent_at(message: &Message, now: DateTime<Utc>) -> DateTime<Utc> {
    let said = message.sent_at.and_then(|seconds| DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0));
    // Milliseconds in place of seconds are thousands of years away.
    said.filter(|said| (*said - now).abs() <= CREDIBLE).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use assay_transaction::RejectReason;

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

    #[test]
    fn a_time_that_cannot_be_is_not_believed() {
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
    fn plain_json_is_judged_and_named_after_its_producer_and_day() {
        let good = r#"{"id":1,"description":"Café","amount":12.50,"timestamp":"2026-01-11 10:00:00","operation_type":"payment","side":"debit"}"#;
        let body = format!("[{good}, {}]", good.replace("12.50", "12.50001"));
        let read = |message: Message| read(&message, &LiveOptions::default());
        let live = read(message(&body)).unwrap();
        let run = format!("amqp_till-7_{}", Day::of(yesterday()).to_string().replace('-', ""));
        assert_eq!((live.id.run_id().as_str(), live.id.message.as_str()), (run.as_str(), "m-1"));
        assert_eq!((live.transactions.len(), &live.rejected[0].reason), (1, &RejectReason::AmountScale));
        assert_eq!(live.rejected[0].row, 2);
        let nameless = Message { id: String::new(), ..message(&body) };
        assert_eq!(read(nameless).unwrap().id.message, live.id.digest.to_string());
        for (body, reason) in [("", "no transaction"), ("[]", "no transaction"), ("7", "no JSON")] {
            let error = read(message(body)).unwrap_err();
            assert!(error.contains(reason), "{body}: {error}");
        }
    }
}
