//! Parsing `AMQP_URL`. The client's own parser is not used: it takes localhost for an IPv6 address.

use assay_connect::{Address, AddressForm, Host, SettingError};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};

const FORM: AddressForm = AddressForm {
    name: "AMQP_URL",
    schemes: &["amqp", "amqps"],
    of: "RabbitMQ",
    example: "amqp://user:password@host:5672/vhost, or amqps://… for TLS",
};

/// Parameters of other clients that are ignored, and their allowed values.
const WITHOUT_EFFECT: [(&str, &[&str]); 18] = [
    ("backpressure_detection", &[]),
    ("blocked_connection_timeout", &[]),
    ("client_properties", &[]),
    ("connection_attempts", &[]),
    ("connection_name", &[]),
    ("fail_fast", &[]),
    ("locale", &[]),
    ("name", &[]),
    ("no_verify_ssl", &["0"]),
    ("product", &[]),
    ("read_timeout", &[]),
    ("reconnect_interval", &[]),
    ("retry_delay", &[]),
    ("socket_timeout", &[]),
    ("stack_timeout", &[]),
    ("timeout", &[]),
    ("verify", &["verify_peer"]),
    ("write_timeout", &[]),
];

/// Reads an address. The defaults are RabbitMQ's user `guest` and virtual host `/`.
pub(super) fn read(text: &str) -> Result<AMQPUri, SettingError> {
    let address = FORM.read(text)?;
    let default = AMQPUri::default();
    let scheme = if address.scheme == "amqps" { AMQPScheme::AMQPS } else { AMQPScheme::AMQP };
    let host = match &address.host {
        Some(host @ (Host::Name(_) | Host::Ip(_))) => host.bare(),
        Some(Host::Socket(_)) => return Err(FORM.wrong("RabbitMQ is not reached through a Unix socket")),
        None => return Err(FORM.wrong("it names no host")),
    };
    let port = address.port.unwrap_or_else(|| scheme.default_port());
    let query = query(&address)?;
    let userinfo = AMQPUserInfo {
        username: address.user.unwrap_or(default.authority.userinfo.username),
        password: address.password.unwrap_or(default.authority.userinfo.password),
    };
    // A trailing slash does not mean a virtual host without a name.
    let vhost = address.path.filter(|vhost| !vhost.is_empty()).unwrap_or(default.vhost);
    Ok(AMQPUri { scheme, authority: AMQPAuthority { userinfo, host, port }, vhost, query })
}

fn query(address: &Address) -> Result<AMQPQueryString, SettingError> {
    let mut query = AMQPQueryString::default();
    let number = || FORM.wrong("one of its parameters has an invalid value");
    for (name, value) in &address.parameters {
        match name.as_str() {
            "frame_max" => query.frame_max = Some(value.parse().map_err(|_| number())?),
            "channel_max" => query.channel_max = Some(value.parse().map_err(|_| number())?),
            "heartbeat" => query.heartbeat = Some(value.parse().map_err(|_| number())?),
            "connection_timeout" => query.connection_timeout = Some(value.parse().map_err(|_| number())?),
            "auth_mechanism" => query.auth_mechanism = Some(value.parse().map_err(|_| number())?),
            _ if FORM.ignores(&WITHOUT_EFFECT, name, value)? => (),
            _ => {
                return Err(FORM.wrong(
                    "its parameters may be auth_mechanism, channel_max, connection_timeout, frame_max and heartbeat; \
                     certificates are given by AMQP_CA_FILE, AMQP_CERT_FILE and AMQP_KEY_FILE",
                ));
            }
        }
    }
    Ok(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_leads_to_the_host_that_it_names() {
        let cases = [
            ("amqp://u:p@[2001:db8::1]:5682/v", "2001:db8::1", 5682, "u", "p", "v"),
            ("amqps://[::1]", "::1", 5671, "guest", "guest", "/"),
            ("amqp://[::ffff:10.0.0.1]/", "::ffff:10.0.0.1", 5672, "guest", "guest", "/"),
            ("amqp://10.0.0.1/%2F", "10.0.0.1", 5672, "guest", "guest", "/"),
            ("amqp://u:%40%2F@rabbit.example/a%2Fb", "rabbit.example", 5672, "u", "@/", "a/b"),
            ("amqp://u:p@rabbit.example/..", "rabbit.example", 5672, "u", "p", ".."),
        ];
        for (text, host, port, user, password, vhost) in cases {
            let uri = read(text).unwrap();
            let AMQPAuthority { userinfo, host: their_host, port: their_port } = &uri.authority;
            assert_eq!((their_host.as_str(), *their_port), (host, port), "{text}");
            assert_eq!((userinfo.username.as_str(), userinfo.password.as_str()), (user, password), "{text}");
            assert_eq!(uri.vhost, vhost, "{text}");
        }
        let query = read("amqp://host?heartbeat=7&frame_max=4096&auth_mechanism=external").unwrap().query;
        assert_eq!((query.heartbeat, query.frame_max), (Some(7), Some(4096)));
        for external in ["connection_attempts=3&retry_delay=5", "socket_timeout=10&name=x", "verify=verify_peer"] {
            assert_eq!(
                read(&format!("amqps://host?heartbeat=7&{external}")).unwrap().query.heartbeat,
                Some(7),
                "{external}"
            );
        }
    }

    #[test]
    fn what_leads_nowhere_is_refused_without_the_password() {
        let cases = [
            ("amqp://u:secret@/v", "no host"),
            ("amqp://u:secret@:5672", "no host"),
            ("amqp://u:secret@%2Frun%2Frabbit/v", "Unix socket"),
            ("amqp://u:secret@host?heartbeat=secret", "an invalid value"),
            ("amqp://u:secret@host?secret=1", "auth_mechanism"),
            ("amqps://u:secret@host?verify=verify_none", "verify_peer"),
            ("amqps://u:secret@host?cacertfile=secret", "AMQP_CA_FILE"),
            ("amqp://u:sec@ret@host", "percent-encode"),
            ("http://u:secret@host", "amqps://…"),
        ];
        for (text, expected) in cases {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with("AMQP_URL ") && error.contains(expected), "{text}: {error}");
            assert!(!error.contains("secret") && !error.contains("sec@"), "{text}: {error}");
        }
    }

    #[test]
    fn the_client_reads_names_as_they_are_read_here() {
        for text in ["amqp://u:p@host:1/v", "amqps://host", "amqp://u:%C3%A9%25@10.0.0.1:5672/%2Fv?heartbeat=3"] {
            assert_eq!(text.parse::<AMQPUri>().unwrap(), read(text).unwrap(), "{text}");
        }
    }
}
