//! Variables of the environment that are meant for settings, and mistyped: the program would run without the setting, and say
//! nothing. [`parse`](crate::parse) refuses them.
//!
//! The environment is shared with everything else that runs on a machine, so a name is taken for a mistyped one only where it
//! can hardly be anything else: it is a setting's but for case or underscores, or one slip away from a long name. It is not where
//! the setting itself is set too: that is the way out for who needs both.

/// A setting's name that is shorter is a word that anybody may use.
const SHORTEST: usize = 8;
/// A first segment this long tells whose name it is, even with a slip in it.
const TELLING: usize = 5;

/// What others name their variables after: the shell and its libraries, clouds, databases, telemetry, orchestrators.
const FOREIGN_PREFIXES: [&str; 9] =
    ["AWS_", "AZURE_", "GOOGLE_", "PG", "OTEL_", "RUST_", "CARGO_", "KUBERNETES_", "LC_"];
/// What Kubernetes and container links make of the names of services.
const FOREIGN_SUFFIXES: [&str; 6] = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT", "_TCP", "_TCP_ADDR", "_TCP_PROTO"];
/// Names of well-known programs that are one letter away from a setting.
const FOREIGN: [&str; 2] = ["DB_CONNECTION", "SECRETS_FILE"];

/// The settings that variables are meant for, and are not: each variable with the setting, in the order of the variables.
pub(crate) fn mistyped<'a>(variables: &'a [String], settings: &'a [String]) -> Vec<(&'a str, &'a str)> {
    let is_set = |setting: &str| variables.iter().any(|variable| variable == setting);
    let meant = |variable: &'a String| {
        let setting = settings.iter().find(|setting| is_meant(variable, setting))?;
        (!settings.contains(variable) && !is_foreign(variable) && !is_set(setting))
            .then_some((variable.as_str(), setting.as_str()))
    };
    variables.iter().filter_map(meant).collect()
}

fn is_foreign(variable: &str) -> bool {
    FOREIGN.contains(&variable)
        || FOREIGN_PREFIXES.iter().any(|prefix| variable.starts_with(prefix))
        || FOREIGN_SUFFIXES.iter().any(|suffix| variable.ends_with(suffix))
}

/// Whether a variable of this name can hardly be anything but the setting.
fn is_meant(variable: &str, setting: &str) -> bool {
    if setting.len() < SHORTEST {
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
        // `AMPQ_URL`: no word of its own.
        Some(Slip::Exchanged) => true,
        Some(Slip::Other) if own == setting => own[..1] == variable[..1.min(variable.len())],
        Some(Slip::Other) => own == other || own.len() >= TELLING,
        None => false,
    }
}

/// What makes one name of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slip {
    /// Two neighbouring letters are exchanged.
    Exchanged,
    /// One letter is wrong, missing or too many.
    Other,
}

/// The one slip between two names; none where they are the same, or further apart, or told apart by a digit, as numbered
/// variables are.
fn slip(name: &[u8], other: &[u8]) -> Option<Slip> {
    let same = name.iter().zip(other).take_while(|(one, two)| one == two).count();
    let (name, other) = (&name[same..], &other[same..]);
    let is_digit = |letter: &u8| letter.is_ascii_digit();
    match (name, other) {
        ([a, b, rest @ ..], [c, d, end @ ..]) if a == d && b == c && rest == end && a != b => Some(Slip::Exchanged),
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
    fn what_is_somebody_elses_is_left_alone() {
        let foreign = [
            "PATH",
            "HOME",
            "USER",
            "LOGNAME",
            "LANG",
            "LC_ALL",
            "TZ",
            "TERM",
            "SHELL",
            "PWD",
            "SHLVL",
            "_",
            "HOSTNAME",
            "key",
            "Keys",
            "KEYS",
            "secret",
            "SECRETS",
            "SECRETS_FILE",
            "API_KEY",
            "API_URL",
            "APP_TIMEOUT",
            "APP_URL",
            "AMQPS_URL",
            "DATABASE_URL2",
            "DATABASE_HOST",
            "DATABASE_NAME",
            "DB_CONNECTION",
            "DB_HOST",
            "LOG_FILE",
            "LOG_CHANNEL",
            "MAX_CONNECTIONS",
            "PGHOST",
            "PGDATABASE",
            "AWS_ENDPOINT_URL",
            "AWS_REGION",
            "RUST_LOG",
            "RUST_BACKTRACE",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "KUBERNETES_SERVICE_HOST",
            "ML_API_SERVICE_HOST",
            "ML_API_PORT",
            "ML_API_PORT_8000_TCP_ADDR",
            "AMQP_PORT",
            "http_proxy",
            "HTTPS_PROXY",
            "no_proxy",
        ];
        for variable in foreign {
            assert_eq!(meant(variable), None, "{variable}");
        }
        for setting in SETTINGS {
            assert_eq!(meant(setting), None, "{setting}");
        }
    }

    #[test]
    fn who_sets_both_means_both() {
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
