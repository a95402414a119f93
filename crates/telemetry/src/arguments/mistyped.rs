//! Finds mistyped settings among the environment variables. Without that, the program would silently use the default.
//! [`parse`](crate::parse) refuses them.
//!
//! The environment is shared with other programs, so a variable counts as mistyped only if it can hardly be anything else: it
//! differs from a setting in case or underscores, or by one slip in a long name. If the setting itself is set too, both are
//! accepted.

/// Shorter names of settings are common words.
const MIN_LENGTH: usize = 8;
/// A first segment of this length identifies the owner of a name, even with a slip in it.
const MIN_PREFIX_LENGTH: usize = 5;

/// Prefixes of shells, libraries, clouds, databases, telemetry and orchestrators.
const EXTERNAL_PREFIXES: [&str; 9] =
    ["AWS_", "AZURE_", "GOOGLE_", "PG", "OTEL_", "RUST_", "CARGO_", "KUBERNETES_", "LC_"];
/// Suffixes that Kubernetes and container links add to names of services.
const EXTERNAL_SUFFIXES: [&str; 6] = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT", "_TCP", "_TCP_ADDR", "_TCP_PROTO"];
/// Variables of well-known programs that are one letter away from a setting.
const EXTERNAL: [&str; 2] = ["DB_CONNECTION", "SECRETS_FILE"];

/// Each mistyped variable with the setting it is meant for, in the order of the variables.
pub(crate) fn mistyped<'a>(variables: &'a [String], settings: &'a [String]) -> Vec<(&'a str, &'a str)> {
    let is_set = |setting: &str| variables.iter().any(|variable| variable == setting);
    let meant = |variable: &'a String| {
        let setting = settings.iter().find(|setting| is_meant(variable, setting))?;
        (!settings.contains(variable) && !is_external(variable) && !is_set(setting))
            .then_some((variable.as_str(), setting.as_str()))
    };
    variables.iter().filter_map(meant).collect()
}

fn is_external(variable: &str) -> bool {
    EXTERNAL.contains(&variable)
        || EXTERNAL_PREFIXES.iter().any(|prefix| variable.starts_with(prefix))
        || EXTERNAL_SUFFIXES.iter().any(|suffix| variable.ends_with(suffix))
}

/// Whether a variable can hardly be meant for anything but the setting.
fn is_meant(variable: &str, setting: &str) -> bool {
    if setting.len() < MIN_LENGTH {
        return false;
    }
    let variable = variable.to_ascii_uppercase().replace(['-', '.'], "_");
    let plain = |name: &str| name.replace('_', "");
    if plain(&variable) == plain(setting) {
        return true;
    }
    let first = |name: &str| name.split('_').next().map(str::to_owned).unwrap_or_default();
    let (own, other) = (first(setting), first(&variable));
    match slip(variable.as_bytes(), setting.as_bytes()) {
        // `AMPQ_URL` is no word of its own.
        Some(Slip::Swapped) => true,
        Some(Slip::Other) if own == setting => own[..1] == variable[..1.min(variable.len())],
        Some(Slip::Other) => own == other || own.len() >= MIN_PREFIX_LENGTH,
        None => false,
    }
}

/// The setting that a name is probably meant for: the nearest one, if it is near. For places where nothing but settings may be.
pub(super) fn nearest<'a>(name: &str, settings: &mut dyn Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_ascii_uppercase().replace(['-', '.'], "_");
    let limit = name.len() * 2 / 5;
    settings.map(|setting| (distance(&name, setting), setting)).filter(|(far, _)| *far <= limit).min().map(|(_, it)| it)
}

/// How many letters have to be changed, added or removed.
fn distance(name: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in name.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, target) in other.bytes().enumerate() {
            let above = row[column + 1];
            let changed = diagonal + usize::from(letter != target);
            row[column + 1] = changed.min(above + 1).min(row[column] + 1);
            diagonal = above;
        }
    }
    row[other.len()]
}

/// The difference of two names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slip {
    /// Two neighbouring letters are swapped.
    Swapped,
    /// One letter is wrong, missing or too many.
    Other,
}

/// The only slip between two names. None if they are equal, differ by more, or differ in a digit, as numbered variables do.
fn slip(name: &[u8], other: &[u8]) -> Option<Slip> {
    let same = name.iter().zip(other).take_while(|(one, two)| one == two).count();
    let (name, other) = (&name[same..], &other[same..]);
    let is_digit = |letter: &u8| letter.is_ascii_digit();
    match (name, other) {
        ([a, b, rest @ ..], [c, d, end @ ..]) if a == d && b == c && rest == end && a != b => Some(Slip::Swapped),
        ([a, rest @ ..], [c, end @ ..]) if rest == end => (!is_digit(a) && !is_digit(c)).then_some(Slip::Other),
        ([a, rest @ ..], other) if rest == other => (!is_digit(a)).then_some(Slip::Other),
        (name, [c, end @ ..]) if name == end => (!is_digit(c)).then_some(Slip::Other),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SETTINGS: [&str; 14] = [
        "API_BATCH_SIZE",
        "API_TIMEOUT",
        "AMQP_URL",
        "DATABASE_URL",
        "DB_CONNECTIONS",
        "DELIMITER",
        "KEY",
        "LOG_LEVEL",
        "MAX_RETRIES",
        "METRICS_ADDR",
        "ML_API_URL",
        "SECRET",
        "SECRET_FILE",
        "STREAMER_TOKENS",
    ];

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn meant(variable: &str) -> Option<String> {
        let (variables, settings) = (owned(&[variable]), owned(&SETTINGS));
        mistyped(&variables, &settings).first().map(|(_, setting)| (*setting).to_owned())
    }

    #[test]
    fn one_slip_is_found() {
        for (variable, setting) in [
            ("API_BATCHSIZE", "API_BATCH_SIZE"),
            ("API_BATCH_SZIE", "API_BATCH_SIZE"),
            ("API_BATCH_SIZ", "API_BATCH_SIZE"),
            ("API_BATCH__SIZE", "API_BATCH_SIZE"),
            ("api_batch_size", "API_BATCH_SIZE"),
            ("Api-Batch-Size", "API_BATCH_SIZE"),
            ("APIBATCHSIZE", "API_BATCH_SIZE"),
            ("API_TIMOUT", "API_TIMEOUT"),
            ("AMPQ_URL", "AMQP_URL"),
            ("AMQP_ULR", "AMQP_URL"),
            ("DATABSE_URL", "DATABASE_URL"),
            ("DATABASEURL", "DATABASE_URL"),
            ("DELIMETER", "DELIMITER"),
            ("LOGLEVEL", "LOG_LEVEL"),
            ("MAX_RETRYES", "MAX_RETRIES"),
            ("METRIC_ADDR", "METRICS_ADDR"),
            ("ML_API_UR", "ML_API_URL"),
            ("STREAMER_TOKEN", "STREAMER_TOKENS"),
        ] {
            assert_eq!(meant(variable).as_deref(), Some(setting), "{variable}");
        }
    }

    #[test]
    fn variables_of_other_programs_are_accepted() {
        let external = "PATH HOME USER LOGNAME LANG LC_ALL TZ TERM SHELL PWD SHLVL _ HOSTNAME key Keys KEYS secret SECRETS \
            SECRETS_FILE API_KEY API_URL APP_TIMEOUT APP_URL AMQPS_URL DATABASE_URL2 DATABASE_HOST DATABASE_NAME \
            DB_CONNECTION DB_HOST LOG_FILE LOG_CHANNEL MAX_CONNECTIONS PGHOST PGDATABASE AWS_ENDPOINT_URL \
            AWS_REGION RUST_LOG RUST_BACKTRACE OTEL_EXPORTER_OTLP_ENDPOINT KUBERNETES_SERVICE_HOST \
            ML_API_SERVICE_HOST ML_API_PORT ML_API_PORT_8000_TCP_ADDR AMQP_PORT http_proxy HTTPS_PROXY no_proxy";
        for variable in external.split(' ') {
            assert_eq!(meant(variable), None, "{variable}");
        }
        for setting in SETTINGS {
            assert_eq!(meant(setting), None, "{setting}");
        }
    }

    #[test]
    fn the_nearest_setting_is_found() {
        let near = |name: &str| nearest(name, &mut SETTINGS.into_iter());
        for (name, setting) in [
            ("api_batch_size", "API_BATCH_SIZE"),
            ("BATCH_SIZE", "API_BATCH_SIZE"),
            ("LOGLEVL", "LOG_LEVEL"),
            ("KEYS", "KEY"),
        ] {
            assert_eq!(near(name), Some(setting), "{name}");
        }
        assert_eq!((near("COLOUR"), near("")), (None, None));
        assert_eq!((distance("kitten", "sitting"), distance("", "abc"), distance("abc", "")), (3, 3, 3));
    }

    #[test]
    fn a_variable_beside_its_setting_is_accepted() {
        let (variables, settings) = (owned(&["LOGLEVEL", "LOG_LEVEL", "AMQP_ULR"]), owned(&SETTINGS));
        assert_eq!(mistyped(&variables, &settings), [("AMQP_ULR", "AMQP_URL")]);
    }

    proptest! {
        #[test]
        fn one_letter_less_is_a_slip_and_two_are_not(setting in "[A-Z]{3}_[A-Z]{5,9}_[A-Z]{3}", at in 4_usize..10) {
            let without = |at: usize, name: &str| format!("{}{}", &name[..at], &name[at + 1..]);
            let once = without(at.min(setting.len() - 1), &setting);
            prop_assert!(is_meant(&once, &setting));
            prop_assert_eq!(slip(setting.as_bytes(), setting.as_bytes()), None);
            let shorter = without(0, &without(0, &setting));
            prop_assert_eq!(slip(shorter.as_bytes(), setting.as_bytes()), None);
        }
    }
}
