//! Durations as people write them in settings: `30s`, `200ms`, `5m`, `2h`.

use std::time::Duration;

/// Parses a whole number with its unit, `ms`, `s`, `m` or `h`; suits a command line's value parser.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let allowed = || format!("`{text}` is not a duration; write a whole number with ms, s, m or h, such as 30s");
    let unit_at = text.find(|character: char| !character.is_ascii_digit()).ok_or_else(allowed)?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_| allowed())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(allowed()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(allowed)
}

/// A number of seconds for people: `40 s`, `12 min 5 s`, `3 h 20 min`.
pub fn human_duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_whole_numbers_with_a_unit() {
        for (text, millis) in [("200ms", 200), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("0s", 0)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "30", "s", "-1s", "1.5s", "10 s", "1d", "99999999999999999999h"] {
            assert!(parse_duration(text).unwrap_err().contains("such as 30s"), "{text}");
        }
    }

    #[test]
    fn people_read_two_units() {
        for (seconds, text) in [(0, "0 s"), (59, "59 s"), (725, "12 min 5 s"), (12_000, "3 h 20 min")] {
            assert_eq!(human_duration(seconds), text);
        }
    }
}
