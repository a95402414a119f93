//! Settings as they may be shown: without secrets.

/// In place of a secret.
const REDACTED: &str = "***";
/// Parts of the names of parameters that hold secrets.
const SECRET_PARAMETERS: [&str; 5] = ["pass", "secret", "token", "key", "sig"];

/// The value of a setting without secrets: of an address, the password and parameters such as `?token=…`; else all of it, if the
/// setting `is_secret`.
pub(super) fn redacted(value: &str, is_secret: bool) -> String {
    let Some((scheme, rest)) = value.split_once("://") else {
        return if is_secret { REDACTED.to_owned() } else { value.to_owned() };
    };
    // The last `@`, as a password that is not encoded may hold others.
    let (user, place) = match rest.rsplit_once('@') {
        Some((credentials, place)) => (Some(credentials.split_once(':').map_or("", |(user, _)| user)), place),
        None => (None, rest),
    };
    let credentials = match user {
        Some("") => format!("{REDACTED}@"),
        Some(user) => format!("{user}:{REDACTED}@"),
        None => String::new(),
    };
    format!("{scheme}://{credentials}{}", without_secret_parameters(place))
}

/// Whether [`redacted`] hides something.
pub(super) fn holds_secret(value: &str, is_secret: bool) -> bool {
    redacted(value, is_secret) != value
}

fn without_secret_parameters(place: &str) -> String {
    let Some((path, parameters)) = place.split_once('?') else { return place.to_owned() };
    let shown = parameters.split('&').map(|parameter| match parameter.split_once('=') {
        Some((name, _)) if SECRET_PARAMETERS.iter().any(|part| name.to_ascii_lowercase().contains(part)) => {
            format!("{name}={REDACTED}")
        }
        _ => parameter.to_owned(),
    });
    format!("{path}?{}", shown.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        for (value, is_secret, expected) in [
            ("amqp://ada:pw@host:5672/vhost", true, "amqp://ada:***@host:5672/vhost"),
            ("amqp://ada:p@w/x?y@host", true, "amqp://ada:***@host"),
            ("https://token@host/predict", true, "https://***@host/predict"),
            ("https://:pw@host", false, "https://***@host"),
            ("postgres://host/db?sslmode=require&password=pw", true, "postgres://host/db?sslmode=require&password=***"),
            ("http://minio:9000", false, "http://minio:9000"),
            ("AKIA123", true, "***"),
            ("5000", false, "5000"),
        ] {
            assert_eq!(redacted(value, is_secret), expected);
            assert_eq!(holds_secret(value, is_secret), value != expected);
        }
    }
}
