//! What a `DATABASE_URL` of PostgreSQL means. The driver's own parser keeps the brackets of IPv6 addresses, which
//! then cannot be resolved, and ignores unknown parameters: so the address is read here, and the driver gets each
//! part as a parameter.

use std::str::FromStr as _;

use assay_connect::{Address, AddressForm, Host, percent_encoded};
use sqlx::postgres::PgConnectOptions;

use crate::StoreError;

const FORM: AddressForm = AddressForm {
    name: "DATABASE_URL",
    schemes: &["postgres", "postgresql"],
    of: "PostgreSQL",
    example: "postgres://user:password@host:5432/name",
};

/// Parameters of the driver, except for those that name parts of an address.
const KNOWN: [&str; 11] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "options",
];
/// Parameters of other clients that change nothing here, and their allowed values.
const WITHOUT_EFFECT: [(&str, &[&str]); 38] = [
    ("application_name", &[]),
    ("fallback_application_name", &[]),
    ("connect_timeout", &[]),
    ("connection_timeout", &[]),
    ("keepalives", &[]),
    ("keepalives_idle", &[]),
    ("keepalives_interval", &[]),
    ("keepalives_count", &[]),
    ("tcp_user_timeout", &[]),
    ("socket_timeout", &[]),
    ("client_encoding", &["utf8", "UTF8", "utf-8", "UTF-8", "auto"]),
    ("channel_binding", &["disable", "prefer"]),
    ("gssencmode", &["disable", "prefer"]),
    ("gssdelegation", &["0"]),
    ("krbsrvname", &[]),
    ("sslcompression", &["0"]),
    ("sslsni", &["1"]),
    ("sslnegotiation", &["postgres"]),
    ("ssl_min_protocol_version", &["TLSv1", "TLSv1.1", "TLSv1.2"]),
    ("ssl_max_protocol_version", &["TLSv1.3"]),
    ("target_session_attrs", &["any", "read-write", "primary"]),
    // Only one host is read.
    ("load_balance_hosts", &[]),
    // DB_CONNECTIONS sets the pool, and a check finds out what a pooler cannot do.
    ("connection_limit", &[]),
    ("max_overflow", &[]),
    ("pgbouncer", &[]),
    ("pool_max_conn_idle_time", &[]),
    ("pool_max_conn_lifetime", &[]),
    ("pool_max_conns", &[]),
    ("pool_min_conns", &[]),
    ("pool_recycle", &[]),
    ("pool_size", &[]),
    ("pool_timeout", &[]),
    ("prepareThreshold", &[]),
    ("prepare_threshold", &[]),
    ("prepared_statement_cache_size", &[]),
    ("statement_cache_mode", &[]),
    ("statement_cache_size", &[]),
    ("supa", &[]),
];
/// Parameters of other clients that would change something, and what does so here.
const ELSEWHERE: [(&str, &str); 10] = [
    ("currentSchema", "DATABASE_SCHEMA names a schema"),
    ("schema", "DATABASE_SCHEMA names a schema"),
    ("search_path", "DATABASE_SCHEMA names a schema"),
    ("lock_timeout", "write options=-c%20lock_timeout%3D…"),
    ("statement_timeout", "write options=-c%20statement_timeout%3D…"),
    ("ssl", "write sslmode=require, or sslmode=verify-full"),
    ("sslaccept", "write sslmode=require, or sslmode=verify-full"),
    ("sslcrl", "lists of revoked certificates are not supported"),
    ("passfile", "PGPASSFILE names a file of passwords"),
    ("service", "files of services are not supported: name host, port and the rest"),
];

/// Reads an address. The environment supplies what it does not name, as for PostgreSQL's own programs (`PGHOST` and
/// the like).
pub(super) fn read(text: &str) -> Result<PgConnectOptions, StoreError> {
    let refused = |error: assay_connect::SettingError| StoreError::configuration(error.to_string());
    let wrong = |cause: &str| refused(FORM.wrong(cause));
    let Address { user, password, host, port, path, parameters, .. } = FORM.read(text).map_err(refused)?;
    // Some clients want a host in front of the parameters, and a socket is named behind it: all clients let the
    // parameter win, and a socket is on this machine, so the address is unambiguous.
    let has_socket = parameters.iter().any(|(name, value)| name == "host" && value.starts_with('/'));
    let host = host.filter(|host| !(has_socket && host.is("localhost")));
    let named = [
        ("host", host.as_ref().map(Host::bare)),
        ("port", port.map(|port| port.to_string())),
        ("user", user),
        ("password", password),
        ("dbname", path.filter(|name| !name.is_empty())),
    ];
    let mut parts: Vec<(&str, String)> = named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    for (name, value) in &parameters {
        // An IP address in place of a host name: for the driver, both are the host.
        let name = if name == "hostaddr" { "host" } else { name };
        match name {
            "host" | "port" | "user" | "password" | "dbname" if parts.iter().any(|(known, _)| *known == name) => {
                return Err(wrong("a parameter repeats a part that stands before the parameters"));
            }
            "host" => {
                let host =
                    Host::read(value).ok_or_else(|| wrong("its host parameter is not a name, IP address or folder"))?;
                parts.push(("host", host.bare()));
            }
            "port" => {
                let port = value.parse::<u16>().ok().filter(|port| *port > 0);
                let port = port.ok_or_else(|| wrong("its port is not a number from 1 to 65535"))?;
                parts.push(("port", port.to_string()));
            }
            "user" | "password" | "dbname" => parts.push((name, value.clone())),
            _ if KNOWN.contains(&name) || (name.starts_with("options[") && name.ends_with(']')) => {
                parts.push((name, value.clone()));
            }
            _ if FORM.ignores(&WITHOUT_EFFECT, name, value).map_err(refused)? => (),
            _ => {
                return Err(match ELSEWHERE.iter().find(|(known, _)| *known == name) {
                    Some((known, remedy)) => wrong(&format!("its parameter {known} is not supported: {remedy}")),
                    // Without its name, which may be a piece of a password with an `&` in it.
                    None => wrong("it has an unknown parameter, or an `&` that is not percent-encoded as %26"),
                });
            }
        }
    }
    let encoded = |(name, value): &(&str, String)| format!("{}={}", percent_encoded(name), percent_encoded(value));
    let query = parts.iter().map(encoded).collect::<Vec<_>>().join("&");
    let options = PgConnectOptions::from_str(&format!("postgres:///?{query}"))
        .map_err(|_| wrong("one of its parameters has an invalid value"))?;
    let value = |name: &str| parts.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
    let host = value("host").and_then(Host::read);
    let is_there = match &host {
        Some(Host::Socket(folder)) => options.get_socket().is_some_and(|socket| socket.as_os_str() == folder.as_str()),
        Some(host) => options.get_socket().is_none() && host.is(options.get_host()),
        None => true,
    };
    let is_same = |name: &str, theirs: Option<&str>| value(name).is_none_or(|ours| theirs == Some(ours));
    let port = options.get_port().to_string();
    if is_there
        && is_same("port", Some(&port))
        && is_same("user", Some(options.get_username()))
        && is_same("dbname", options.get_database())
    {
        Ok(options)
    } else {
        Err(refused(FORM.ambiguous()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn problem(text: &str) -> String {
        read(text).err().unwrap_or_else(|| panic!("{text} is read")).to_string()
    }

    #[test]
    fn an_address_leads_to_the_host_that_it_names() {
        let cases = [
            ("postgres://u:p@[::1]:5433/a", "::1", 5433, "u", "a"),
            ("postgresql://u@[2001:db8::1]:1/a", "2001:db8::1", 1, "u", "a"),
            ("postgres://u@[::ffff:127.0.0.1]:1/a", "::ffff:127.0.0.1", 1, "u", "a"),
            ("postgres://u%40x:p%2F%40@db.example:1/a%20b", "db.example", 1, "u@x", "a b"),
            ("postgres:///a?host=%3A%3A1&port=7&user=u&password=p", "::1", 7, "u", "a"),
            ("postgres://u@10.0.0.1:5433/?dbname=a&sslmode=require&connect_timeout=3", "10.0.0.1", 5433, "u", "a"),
            ("postgres://u@/a?hostaddr=10.0.0.1&port=1&channel_binding=prefer", "10.0.0.1", 1, "u", "a"),
        ];
        for (text, host, port, user, database) in cases {
            let options = read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((options.get_host(), options.get_port()), (host, port), "{text}");
            assert_eq!((options.get_username(), options.get_database()), (user, Some(database)), "{text}");
            assert_eq!(options.get_socket(), None, "{text}");
        }
        for text in [
            "postgres:///a?host=/run/pg",
            "postgres://u:p@localhost:7/a?host=/run/pg",
            "postgres://u@%2Frun%2Fpg:7/a",
            "postgres://%2frun%2fpg/a",
        ] {
            let options = read(text).unwrap();
            assert_eq!(options.get_socket().map(|path| path.to_str().unwrap()), Some("/run/pg"), "{text}");
        }
    }

    #[test]
    fn parameters_of_other_clients_without_effect_are_ignored() {
        for parameters in [
            "sslmode=require&application_name=x&connect_timeout=10&target_session_attrs=read-write",
            "pgbouncer=true&connection_limit=5&pool_timeout=10",
            "pool_max_conns=10&pool_size=5&max_overflow=2",
            "gssencmode=disable&sslnegotiation=postgres&ssl_min_protocol_version=TLSv1.2&load_balance_hosts=disable",
            "options=-csearch_path%3Dx&statement-cache-capacity=0",
            "sslmode=require&supa=base-pooler.x",
        ] {
            let options = read(&format!("postgres://u:p@host:1/a?{parameters}"))
                .unwrap_or_else(|error| panic!("{parameters}: {error}"));
            assert_eq!((options.get_host(), options.get_port(), options.get_database()), ("host", 1, Some("a")));
        }
    }

    #[test]
    fn what_leads_elsewhere_is_refused_without_the_password() {
        let cases = [
            ("postgres://u:SEC@RET@host/a", "percent-encode"),
            ("postgres://u:SEC/RET@host/a", "percent-encode"),
            ("postgres://u:SEC#RET@host/a", "percent-encode"),
            ("postgres://u:SEC%RET@host/a", "percent-encode"),
            ("postgres://u:SECRET@a,b/c", "several hosts"),
            ("postgres:///c?host=a,b&password=SECRET", "not a name, IP address or folder"),
            ("postgres://u:SECRET@host/a?host=other", "repeats a part"),
            ("postgres://u:SECRET@host/a?host=/run/pg", "repeats a part"),
            ("postgres://u:SECRET@localhost/a?host=other", "repeats a part"),
            ("postgres://u:SECRET@host/a?schema=SECRET", "DATABASE_SCHEMA"),
            ("postgres://u:SECRET@host/a?ssl=SECRET", "sslmode=require"),
            ("postgres://u:SECRET@host/a?hostaddr=10.0.0.1", "repeats a part"),
            ("postgres://host/a?user=u&password=SEC&RET=1", "%26"),
            ("postgres://u:SECRET@host/a?channel_binding=require", "channel_binding has a value"),
            ("postgres://u:SECRET@host/a?sslmode=SECRET", "invalid value"),
            ("postgres://u:SECRET@host/a?port=x", "port is not a number"),
            ("postgres://u:SECRET@host/a?host=127.1", "repeats a part"),
            ("mysql://u:SECRET@host/a", "its scheme is not supported"),
        ];
        for (text, expected) in cases {
            let problem = problem(text);
            assert!(problem.starts_with("DATABASE_URL ") && problem.contains(expected), "{text}: {problem}");
            assert!(!problem.contains("SEC") && !problem.contains("RET"), "{text}: {problem}");
        }
    }

    proptest! {
        #[test]
        fn names_and_passwords_are_kept_as_they_are(user in "[^\0]{1,20}", name in "[^\0]{1,20}", password in "[^\0]{0,40}") {
            let encode = percent_encoded;
            let text = format!("postgres://{}:{}@[::1]:5433/{}", encode(&user), encode(&password), encode(&name));
            let options = read(&text).unwrap();
            prop_assert_eq!(options.get_host(), "::1");
            prop_assert_eq!(options.get_username(), user);
            prop_assert_eq!(options.get_database(), Some(name.as_str()));
        }
    }
}
