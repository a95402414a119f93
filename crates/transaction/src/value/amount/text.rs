//! The digits of an amount, written one by one: every row needs them, and a general decimal is slow to format.

use rust_decimal::Decimal;

use super::MAX_SCALE;

/// A sign, the digits of any 128-bit number, a zero and a point.
const LONGEST: usize = 42;

/// `[-]digits[.digits]`, with as many decimals as the scale.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AmountText {
    bytes: [u8; LONGEST],
    start: usize,
}

impl AmountText {
    pub(crate) fn of(value: Decimal) -> Self {
        let mut text = Self { bytes: [0; LONGEST], start: LONGEST };
        let scale = usize::try_from(value.scale()).unwrap_or(MAX_SCALE);
        let units = value.mantissa().unsigned_abs();
        match u64::try_from(units) {
            Ok(units) => text.write(units, scale, |units| (units / 10, units % 10)),
            Err(_) => text.write(units, scale, |units| (units / 10, units % 10)),
        }
        if value.is_sign_negative() {
            text.put(b'-');
        }
        text
    }

    /// Writes the digits from the last to the first; `split` parts the last digit from the others.
    fn write<N: Copy + Default + PartialEq + TryInto<u8>>(
        &mut self,
        mut units: N,
        scale: usize,
        split: impl Fn(N) -> (N, N),
    ) {
        let mut written = 0;
        while written <= scale || units != N::default() {
            if written == scale && scale > 0 {
                self.put(b'.');
            }
            let (others, last) = split(units);
            self.put(b'0' + last.try_into().unwrap_or_default());
            units = others;
            written += 1;
        }
    }

    fn put(&mut self, byte: u8) {
        self.start -= 1;
        self.bytes[self.start] = byte;
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(crate) fn as_str(&self) -> &str {
        // Only digits, a sign and a point.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_text_of_the_decimal(
            units in prop_oneof![any::<i64>().prop_map(i128::from), -(10_i128.pow(20))..10_i128.pow(20), -11_000_i128..11_000],
            scale in 0_u32..=4,
        ) {
            let value = Decimal::from_i128_with_scale(units, scale);
            let text = AmountText::of(value);
            prop_assert_eq!(text.as_str(), value.to_string());
        }
    }
}
