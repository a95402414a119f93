//! The W3C trace context: `00-<trace id>-<span id>-<flags>`.

use std::fmt;
use std::str::FromStr;

/// Which span of which trace something belongs to, and whether the trace is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; not zero.
    pub trace_id: u128,
    /// The span; not zero.
    pub span_id: u64,
    /// Whether the trace is recorded, as its first span decided.
    pub is_sampled: bool,
}

/// A text that is no trace context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidContext;

/// The only version so far. A later one may have more parts.
const VERSION: &str = "00";
/// Not allowed as a version.
const NO_VERSION: &str = "ff";
const SAMPLED: u8 = 1;

impl fmt::Display for TraceContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace_id, span_id, is_sampled } = self;
        write!(formatter, "{VERSION}-{trace_id:032x}-{span_id:016x}-{:02x}", u8::from(*is_sampled))
    }
}

impl FromStr for TraceContext {
    type Err = InvalidContext;

    fn from_str(text: &str) -> Result<Self, InvalidContext> {
        let mut parts = text.trim().split('-');
        let mut part = |digits: usize| {
            let is_hex = |part: &&str| {
                part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            };
            parts.next().filter(is_hex).ok_or(InvalidContext)
        };
        let (version, trace_id, span_id, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let trace_id = u128::from_str_radix(trace_id, 16).map_err(|_| InvalidContext)?;
        let span_id = u64::from_str_radix(span_id, 16).map_err(|_| InvalidContext)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| InvalidContext)?;
        let has_more = parts.next().is_some();
        if version == NO_VERSION || version == VERSION && has_more || trace_id == 0 || span_id == 0 {
            return Err(InvalidContext);
        }
        Ok(Self { trace_id, span_id, is_sampled: flags & SAMPLED != 0 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn a_context_that_is_none_is_refused() {
        let read = |text: &str| text.parse::<TraceContext>();
        for (text, is_sampled) in [
            (format!("00-{TRACE}-b7ad6b7169203331-01"), true),
            (format!("00-{TRACE}-b7ad6b7169203331-00"), false),
            (format!(" 00-{TRACE}-b7ad6b7169203331-03\n"), true),
            (format!("cc-{TRACE}-b7ad6b7169203331-01-what-comes"), true),
        ] {
            let expected = TraceContext {
                trace_id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
                span_id: 0xb7ad_6b71_6920_3331,
                is_sampled,
            };
            assert_eq!(read(&text), Ok(expected), "{text}");
        }
        for text in [
            String::new(),
            "4111111111111111".to_owned(),
            format!("00-{TRACE}-b7ad6b7169203331"),
            format!("00-{TRACE}-b7ad6b7169203331-01-more"),
            format!("ff-{TRACE}-b7ad6b7169203331-01"),
            format!("00-{}-b7ad6b7169203331-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{TRACE}-+7ad6b7169203331-01"),
            format!("00-{TRACE}-b7ad6b716920333é-01"),
        ] {
            assert_eq!(read(&text), Err(InvalidContext), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,80}") {
            let _ = text.parse::<TraceContext>();
        }

        #[test]
        fn what_is_written_is_read(trace_id in 1_u128.., span_id in 1_u64.., is_sampled: bool) {
            let context = TraceContext { trace_id, span_id, is_sampled };
            prop_assert_eq!(context.to_string().parse(), Ok(context));
        }
    }
}
