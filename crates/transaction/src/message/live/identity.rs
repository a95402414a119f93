//! The identity of a live message: its producer, day and name.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::{RunId, SourceIdentity};

/// The name of a producer: 1 to 48 letters, digits, `_` and `-`, so that its runs have valid names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Producer(Arc<str>);

/// A text is not the name of a producer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not allowed: a producer has 1 to 48 letters, digits, `_` or `-`")]
pub struct ParseProducerError(String);

impl Producer {
    const MAX_LENGTH: usize = 48;
    /// Digits of the hash in a derived producer name.
    const HASH_LENGTH: usize = 8;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The producer for another program's name. A valid name is kept; in any other, invalid characters become `-`, the
    /// name is shortened, and a hash of the original follows, so that similar names never become one producer. A blank
    /// name becomes `unnamed`.
    pub fn of_application(name: &str) -> Self {
        if let Ok(producer) = name.parse() {
            return producer;
        }
        if name.trim().is_empty() {
            return Self("unnamed".into());
        }
        let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).simple().to_string();
        let hash = &hash[..Self::HASH_LENGTH];
        let allowed = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
        let shown = |character| if allowed(character) { character } else { '-' };
        let room = Self::MAX_LENGTH - Self::HASH_LENGTH - 1;
        let readable: String = name.trim().chars().take(room).map(shown).collect();
        Self(format!("{readable}-{hash}").into())
    }
}

impl FromStr for Producer {
    type Err = ParseProducerError;

    fn from_str(text: &str) -> Result<Self, ParseProducerError> {
        match text.parse::<RunId>() {
            Ok(_) if text.len() <= Self::MAX_LENGTH => Ok(Self(text.into())),
            _ => Err(ParseProducerError(text.to_owned())),
        }
    }
}

impl fmt::Display for Producer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Producer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Does not quote the text, which may be confidential.
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|_| serde::de::Error::custom("a producer has 1 to 48 letters, digits, `_` or `-`"))
    }
}

/// A day in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Day(NaiveDate);

impl Day {
    /// The day of an instant.
    pub fn of(at: DateTime<Utc>) -> Self {
        Self(at.date_naive())
    }

    /// The day after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.succ_opt().unwrap_or(NaiveDate::MAX))
    }

    /// The first instant after it.
    pub fn end(self) -> DateTime<Utc> {
        self.next().0.and_time(chrono::NaiveTime::MIN).and_utc()
    }
}

/// `2026-01-11`.
impl fmt::Display for Day {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0.format("%Y-%m-%d"))
    }
}

impl FromStr for Day {
    type Err = chrono::ParseError;

    fn from_str(text: &str) -> Result<Self, chrono::ParseError> {
        // Only a four-digit year makes the name of a run.
        let text = if text.len() == 10 { text } else { "" };
        NaiveDate::parse_from_str(text, "%Y-%m-%d").map(Self)
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|_| serde::de::Error::custom("a day is written like 2026-01-11"))
    }
}

/// The identity of a live message; a repeated one changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LiveId {
    /// Its producer.
    pub producer: Producer,
    /// Its day.
    pub day: Day,
    /// Its name, unique per producer and day: its `message_id`, or else the hash of its body.
    pub message: String,
    /// A hash of the body, to detect another message with the same name.
    pub digest: Uuid,
    /// Whether the producer counts what it sends.
    #[serde(default)]
    pub counted: bool,
}

impl LiveId {
    /// The identity of a message with this body; a nameless one is named by its body.
    pub fn new(producer: Producer, day: Day, message: String, body: &[u8], counted: bool) -> Self {
        let digest = Uuid::new_v5(&Uuid::NAMESPACE_OID, body);
        // A database cannot store NUL, so such a name is ignored.
        let message = if message.is_empty() || message.contains('\0') { digest.to_string() } else { message };
        Self { producer, day, message, digest, counted }
    }

    /// Checks that a message can be recorded under it.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        match self.message.len() {
            1..=255 if !self.message.contains('\0') => Ok(()),
            _ => Err("its name must have 1 to 255 bytes and no NUL"),
        }
    }

    /// The identity for a later day, if its own is over: a name that no message of that day has.
    #[must_use]
    pub fn late(&self, day: Day) -> Self {
        Self { day, message: format!("{}/{}", self.day, self.message), ..self.clone() }
    }

    /// Its run: `live_shop_20260111`, or `amqp_shop_20260111` for a producer that does not count.
    pub fn run_id(&self) -> RunId {
        let Self { producer, day, counted, .. } = self;
        let kind = if *counted { "live" } else { "amqp" };
        let name = format!("{kind}_{producer}_{}", day.0.format("%Y%m%d"));
        name.parse().unwrap_or_else(|_| unreachable!("a producer's name and a day make a run's name"))
    }

    /// The source of its run in the ledger.
    pub fn source(&self) -> SourceIdentity {
        let kind = if self.counted { "live" } else { "amqp" };
        SourceIdentity { location: format!("{kind}:{}", self.producer), version: self.day.to_string() }
    }
}

/// `run/message`, for a person.
impl fmt::Display for LiveId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.run_id(), self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_after_its_producer_and_day() {
        let day: Day = "2026-01-11".parse().unwrap();
        let longest = Producer::of_application(&"x".repeat(48));
        for (producer, counted, run) in [
            ("shop".parse().unwrap(), true, "live_shop_20260111".to_owned()),
            (Producer::of_application("Till No. 7"), false, "amqp_Till-No--7-39749d56_20260111".to_owned()),
            (Producer::of_application(" "), false, "amqp_unnamed_20260111".to_owned()),
            (longest, true, format!("live_{}_20260111", "x".repeat(48))),
        ] {
            assert_eq!(LiveId::new(producer, day, String::new(), b"x", counted).run_id().as_str(), run);
        }
        for bad in ["", "a b", "é", &"x".repeat(49)] {
            assert!(bad.parse::<Producer>().is_err(), "{bad}");
        }
    }

    #[test]
    fn different_program_names_are_different_producers() {
        let long = "x".repeat(48);
        let names = [
            "till-7",
            "till 7",
            "till/7",
            "till.7",
            " till-7",
            "till-7\n",
            "Till-7",
            "caisse é",
            "caisse è",
            "caisse e\u{301}",
            &long,
            &format!("{long}1"),
            &format!("{long}2"),
            &format!("{}é", "x".repeat(39)),
        ];
        let producers: Vec<Producer> = names.iter().map(|name| Producer::of_application(name)).collect();
        for (at, producer) in producers.iter().enumerate() {
            assert_eq!(producer.as_str().parse().as_ref(), Ok(producer), "a producer's name is valid");
            assert!(!producers[..at].contains(producer), "{producer}");
        }
        // Stored data uses such names: they must never change.
        for (name, expected) in [
            ("till-7", "till-7"),
            (long.as_str(), long.as_str()),
            ("", "unnamed"),
            (" \n", "unnamed"),
            ("till 7", "till-7-7bdb95b7"),
            ("till/7", "till-7-d6ed886c"),
        ] {
            assert_eq!(Producer::of_application(name).as_str(), expected);
        }
    }

    #[test]
    fn a_message_without_a_name_is_named_by_its_body() {
        let named = |body: &[u8]| {
            LiveId::new("shop".parse().unwrap(), "2026-01-11".parse().unwrap(), String::new(), body, false).message
        };
        assert_eq!(named(b"one"), named(b"one"));
        assert_ne!(named(b"one"), named(b"two"));
    }

    #[test]
    fn a_day_ends_at_midnight_in_utc() {
        let day: Day = "2026-12-31".parse().unwrap();
        assert_eq!(day.end().to_rfc3339(), "2027-01-01T00:00:00+00:00");
        assert!("11.01.2026".parse::<Day>().is_err());
    }
}
