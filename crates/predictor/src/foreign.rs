//! What other people's producers send: plain JSON, without a type of ours, on the realtime lane.
//!
//! The producer is the message's `app_id`, its day that of its `timestamp`, or else of its arrival here; its name is its
//! `message_id`, or else the hash of its body.

use assay_queue::Message;
use assay_transaction::{Day, LiveId, LiveMessage, LiveRules, Producer, split_transactions};
use chrono::{DateTime, Utc};

use crate::LiveOptions;

/// Reads and judges one; the error is the reason for a dead letter.
pub(crate) fn read(message: &Message, options: &LiveOptions) -> Result<LiveMessage, String> {
    let producer = Producer::of_application(&message.app_id);
    let rules = LiveRules::new(&options.settings(&producer)).map_err(|error| error.to_string())?;
    let sent_at = message.sent_at.and_then(|seconds| DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0));
    let day = Day::of(sent_at.unwrap_or_else(Utc::now));
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

#[cfg(test)]
mod tests {
    use assay_transaction::RejectReason;

    use super::*;

    fn message(body: &str) -> Message {
        let mut message = Message::new("m-1", "", &"x".parse().unwrap(), body.to_owned());
        message.app_id = "till 7".to_owned();
        message.sent_at = Some(1_768_089_600);
        message
    }

    #[test]
    fn plain_json_is_judged_and_named_after_its_producer_and_day() {
        let good = r#"{"id":1,"description":"Café","amount":12.50,"timestamp":"2026-01-11 10:00:00","operation_type":"payment","side":"debit"}"#;
        let body = format!("[{good}, {}]", good.replace("12.50", "12.50001"));
        let read = |message: Message| read(&message, &LiveOptions::default());
        let live = read(message(&body)).unwrap();
        assert_eq!((live.id.run_id().as_str(), live.id.message.as_str()), ("amqp_till-7_20260111", "m-1"));
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
