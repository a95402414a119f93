//! Who reads stdout: people at a terminal, for whom numbers are grouped and words are coloured, or programs, which get neither.

use std::borrow::Cow;
use std::io::IsTerminal as _;
use std::sync::OnceLock;

use assay_telemetry::{ColorOption, is_json};

/// Set once, in `main`. Tests see numbers as people do, and no colours.
static AUDIENCE: OnceLock<Audience> = OnceLock::new();

#[derive(Debug, Clone, Copy)]
struct Audience {
    is_grouped: bool,
    is_colored: bool,
}

fn audience() -> Audience {
    AUDIENCE.get().copied().unwrap_or(Audience { is_grouped: true, is_colored: false })
}

/// Finds out who reads the output.
pub fn find_audience(color: ColorOption) {
    let (is_terminal, is_json) = (std::io::stdout().is_terminal(), is_json());
    let audience = Audience { is_grouped: is_terminal && !is_json, is_colored: color.is_on(is_terminal) && !is_json };
    // Only a second call can fail.
    let _ = AUDIENCE.set(audience);
}

/// `1,000,000` for people, `1000000` for programs.
pub fn grouped(number: u64) -> String {
    if audience().is_grouped { with_separators(number) } else { number.to_string() }
}

/// `1,000,000`, where only people read it.
pub fn with_separators(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What a word tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// The head of a table.
    Head,
    /// All is well.
    Good,
    /// Something is under way, or ended early on purpose.
    Open,
    /// Somebody has to act.
    Bad,
}

impl Tone {
    /// The SGR code.
    fn code(self) -> &'static str {
        match self {
            Self::Head => "1",
            Self::Good => "32",
            Self::Open => "33",
            Self::Bad => "31",
        }
    }
}

/// Text in a colour, if colours are on.
pub fn toned(tone: Tone, text: &str) -> Cow<'_, str> {
    painted(tone, text, audience().is_colored)
}

fn painted(tone: Tone, text: &str, is_colored: bool) -> Cow<'_, str> {
    if is_colored { format!("\x1b[{}m{text}\x1b[0m", tone.code()).into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(with_separators(number), text);
        }
        assert_eq!(grouped(1_000), "1,000");
    }

    #[test]
    fn a_colour_ends_with_its_text() {
        assert_eq!(painted(Tone::Bad, "stalled", true), "\u{1b}[31mstalled\u{1b}[0m");
        assert_eq!(painted(Tone::Bad, "stalled", false), "stalled");
    }
}
