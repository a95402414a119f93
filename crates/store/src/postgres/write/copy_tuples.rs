//! Values in the binary format of PostgreSQL's COPY, without the driver's detour over a value of its own for each.
//!
//! Format: <https://www.postgresql.org/docs/current/sql-copy.html>, "Binary Format". Each value has the form that the type's receive
//! function reads, all numbers with their highest byte first. The tests compare with what the driver encodes.

use assay_transaction::{Amount, Timestamp};
use uuid::Uuid;

/// Signature, flags, and the length of an extension that is not there.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// In place of a tuple's number of fields.
const TRAILER: i16 = -1;
/// In place of a value's length.
const NULL: i32 = -1;
/// The first byte of a binary `jsonb`; its text follows.
const JSONB_VERSION: u8 = 1;
/// 2000-01-01, from where PostgreSQL counts, in microseconds since 1970.
const EPOCH: i64 = 946_684_800_000_000;
/// The sign of a negative `numeric`.
const NEGATIVE: u16 = 0x4000;
/// A digit of a `numeric` counts to this.
const BASE: u64 = 10_000;
/// The decimals of an amount: one digit of a `numeric`.
const DECIMALS: u32 = 4;

/// The data of a COPY statement, or a piece of it.
pub(super) struct Tuples {
    buffer: Vec<u8>,
}

impl Tuples {
    /// The begin of the data, with room for that many bytes and a row.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(bytes + bytes / 8);
        buffer.extend_from_slice(HEADER);
        Self { buffer }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Begins the next piece.
    pub(super) fn clear(&mut self) {
        self.buffer.clear();
    }

    /// Ends the data.
    pub(super) fn end(&mut self) {
        self.put(TRAILER.to_be_bytes());
    }

    /// Begins a tuple of so many values.
    pub(super) fn begin(&mut self, fields: i16) {
        self.put(fields.to_be_bytes());
    }

    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        self.buffer.extend_from_slice(&bytes);
    }

    /// A length that no row reaches the limit of: a message has at most some megabytes.
    fn length(&mut self, bytes: usize) {
        self.put(i32::try_from(bytes).unwrap_or(i32::MAX).to_be_bytes());
    }

    fn null(&mut self) {
        self.put(NULL.to_be_bytes());
    }

    pub(super) fn uuid(&mut self, id: &Uuid) {
        self.length(id.as_bytes().len());
        self.put(*id.as_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.length(text.len());
        self.buffer.extend_from_slice(text.as_bytes());
    }

    pub(super) fn optional_text(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.null(),
        }
    }

    pub(super) fn optional_jsonb(&mut self, json: Option<&str>) {
        let Some(json) = json else { return self.null() };
        self.length(json.len() + size_of_val(&JSONB_VERSION));
        self.buffer.push(JSONB_VERSION);
        self.buffer.extend_from_slice(json.as_bytes());
    }

    pub(super) fn bigint(&mut self, number: i64) {
        self.length(size_of_val(&number));
        self.put(number.to_be_bytes());
    }

    pub(super) fn optional_bigint(&mut self, number: Option<i64>) {
        match number {
            Some(number) => self.bigint(number),
            None => self.null(),
        }
    }

    pub(super) fn optional_double(&mut self, number: Option<f64>) {
        let Some(number) = number else { return self.null() };
        self.length(size_of_val(&number));
        self.put(number.to_be_bytes());
    }

    pub(super) fn timestamp(&mut self, timestamp: Timestamp) {
        self.bigint(timestamp.as_datetime().timestamp_micros() - EPOCH);
    }

    /// Number of digits, weight of the first one, sign, decimals; then the digits to the base of 10,000, without zeros at either end.
    pub(super) fn numeric(&mut self, amount: Amount) {
        let decimal = amount.as_decimal();
        let (scale, units) = (decimal.scale(), decimal.mantissa().unsigned_abs());
        let all = digits(units * 10_u128.pow(DECIMALS.saturating_sub(scale)));
        let is_digit = |digit: &u16| *digit != 0;
        let (Some(first), Some(last)) = (all.iter().position(is_digit), all.iter().rposition(is_digit)) else {
            // Zero has no digits.
            self.length(8);
            return self.put([0; 8]);
        };
        let digits = &all[first..=last];
        self.length(8 + 2 * digits.len());
        // Both count at most the digits of an amount.
        let weight = i16::try_from(all.len() - 2).unwrap_or_default() - i16::try_from(first).unwrap_or_default();
        self.put(u16::try_from(digits.len()).unwrap_or_default().to_be_bytes());
        self.put(weight.to_be_bytes());
        self.put(if decimal.is_sign_negative() { NEGATIVE } else { 0 }.to_be_bytes());
        self.put(u16::try_from(scale).unwrap_or_default().to_be_bytes());
        for digit in digits {
            self.put(digit.to_be_bytes());
        }
    }
}

/// The digits of a number of ten-thousandths to the base of 10,000: four before the decimal mark, one behind it.
fn digits(ten_thousandths: u128) -> [u16; 5] {
    let (mut integer, decimals) = match u64::try_from(ten_thousandths) {
        Ok(small) => (small / BASE, small % BASE),
        Err(_) => (
            u64::try_from(ten_thousandths / u128::from(BASE)).unwrap_or_default(),
            u64::try_from(ten_thousandths % u128::from(BASE)).unwrap_or_default(),
        ),
    };
    let mut digits = [0; 5];
    let (before, behind) = digits.split_at_mut(4);
    behind[0] = u16::try_from(decimals).unwrap_or_default();
    for digit in before.iter_mut().rev() {
        *digit = u16::try_from(integer % BASE).unwrap_or_default();
        integer /= BASE;
    }
    digits
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;
    use sqlx::encode::{Encode, IsNull};
    use sqlx::postgres::PgArgumentBuffer;
    use sqlx::types::JsonRawValue;
    use sqlx::{Postgres, Type};

    use super::*;

    /// A value as the driver encodes it, with its length.
    fn by_driver<'q>(value: impl Encode<'q, Postgres> + Type<Postgres>) -> Vec<u8> {
        let mut buffer = PgArgumentBuffer::default();
        let is_null = matches!(value.encode_by_ref(&mut buffer).unwrap(), IsNull::Yes);
        let length = if is_null { NULL } else { i32::try_from(buffer.len()).unwrap() };
        [&length.to_be_bytes()[..], &buffer].concat()
    }

    fn encoded(value: impl FnOnce(&mut Tuples)) -> Vec<u8> {
        let mut tuples = Tuples { buffer: Vec::new() };
        value(&mut tuples);
        tuples.buffer
    }

    fn assert_amount(text: &str) {
        let amount: Amount = text.parse().unwrap();
        assert_eq!(encoded(|tuples| tuples.numeric(amount)), by_driver(amount.as_decimal()), "{text}");
    }

    #[test]
    fn the_ends_of_the_range_are_encoded() {
        for text in [
            "0",
            "0.0000",
            "-0.0",
            "1",
            "-1",
            "0.0001",
            "-0.0001",
            "0.1",
            "10000",
            "10000.5",
            "100000000",
            "9999.9999",
            "1844674407370955.1615",
            "1844674407370955.1616",
            "1844674407370956",
            "9999999999999999.9999",
            "-9999999999999999.9999",
        ] {
            assert_amount(text);
        }
        for text in
            ["0000-01-01T00:00:00Z", "1999-12-31T23:59:59.999999Z", "2000-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]
        {
            let timestamp = Timestamp::parse(text.as_bytes(), assay_transaction::TimeZone::UTC).unwrap();
            assert_eq!(encoded(|tuples| tuples.timestamp(timestamp)), by_driver(timestamp.as_datetime()), "{text}");
        }
        let json = serde_json::from_str::<&JsonRawValue>(r#"{"a": "b"}"#).unwrap();
        assert_eq!(encoded(|tuples| tuples.optional_jsonb(Some(json.get()))), by_driver(sqlx::types::Json(json)));
        assert_eq!(encoded(|tuples| tuples.optional_jsonb(None)), by_driver(None::<&str>));
    }

    proptest! {
        #[test]
        fn values_are_encoded_as_the_driver_does(
            id: u128,
            text in prop::option::of(".{0,40}"),
            double in prop::option::of(any::<f64>()),
            number: i64,
            micros in -60_000_000_000_000_000_i64..250_000_000_000_000_000,
            integer in 0_u64..10_000_000_000_000_000,
            fraction in "[0-9]{1,4}",
            is_negative: bool,
        ) {
            let id = Uuid::from_u128(id);
            prop_assert_eq!(encoded(|tuples| tuples.uuid(&id)), by_driver(id));
            prop_assert_eq!(encoded(|tuples| tuples.optional_text(text.as_deref())), by_driver(text));
            prop_assert_eq!(encoded(|tuples| tuples.optional_double(double)), by_driver(double));
            prop_assert_eq!(encoded(|tuples| tuples.bigint(number)), by_driver(number));
            let timestamp = Timestamp::from(DateTime::from_timestamp_micros(micros).unwrap());
            prop_assert_eq!(encoded(|tuples| tuples.timestamp(timestamp)), by_driver(timestamp.as_datetime()));
            let sign = if is_negative { "-" } else { "" };
            assert_amount(&format!("{sign}{integer}.{fraction}"));
            assert_amount(&format!("{sign}{}", integer % 100_000));
        }
    }
}
