//! Who may use the console: users with tokens, or everybody who can reach it, for looking.
//!
//! A browser sends a token as the password of basic authentication, a program as bearer token. Without tokens, the name by which the
//! console is reached is checked: a page elsewhere that resolves its own name to this address must not read it.

mod users;

use std::fmt;

use axum::http::{HeaderMap, Method, header};

use self::users::Users;
use crate::{ConsoleError, ConsoleOptions};

/// What a user may do. Everybody may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Looks.
    Viewer,
    /// Orders replays, repairs, cancellations and audits.
    Operator,
    /// Sees rows unmasked, which is recorded.
    Auditor,
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
        })
    }
}

/// Who looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    /// None for somebody without a token.
    pub(crate) name: Option<String>,
    pub(crate) role: Role,
}

impl User {
    pub(crate) const ANONYMOUS: Self = Self { name: None, role: Role::Viewer };

    /// The name, if they have this role.
    pub(crate) fn name_as(&self, role: Role) -> Option<&str> {
        self.name.as_deref().filter(|_| self.role == role)
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It needs the token of a user.
    Unauthenticated,
    /// It names another host.
    ForeignHost(String),
    /// A page of another origin sent it.
    ForeignOrigin,
}

/// Who may use the console.
#[derive(Debug)]
pub(crate) enum Access {
    Users(Users),
    /// Everybody, by these names of the host.
    Anonymous {
        hosts: Vec<String>,
    },
}

impl Access {
    pub(crate) fn new(options: &ConsoleOptions) -> Result<Self, ConsoleError> {
        let ConsoleOptions { console_addr: address, console_hosts: hosts, .. } = options;
        let file = options.console_users_file.as_deref().filter(|path| !path.as_os_str().is_empty());
        match file {
            Some(_) if options.console_anonymous => Err(ConsoleError::Setting(
                "CONSOLE_USERS_FILE and CONSOLE_ANONYMOUS are both set: unset one of them".to_owned(),
            )),
            Some(path) => Ok(Self::Users(Users::read(path)?)),
            None if options.console_actions => Err(ConsoleError::Setting(
                "CONSOLE_ACTIONS needs users, as each action is recorded with a name: set CONSOLE_USERS_FILE"
                    .to_owned(),
            )),
            None if options.console_anonymous || address.ip().to_canonical().is_loopback() => {
                let names = hosts.iter().map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty());
                Ok(Self::Anonymous { hosts: names.collect() })
            }
            None => Err(ConsoleError::Setting(format!(
                "CONSOLE_ADDR is {address}, which others can reach, but there are no users: set CONSOLE_USERS_FILE, or \
                 CONSOLE_ANONYMOUS=true to let everybody look, or listen at 127.0.0.1"
            ))),
        }
    }

    /// The user who sends a request.
    pub(crate) fn check(&self, method: &Method, headers: &HeaderMap) -> Result<User, Refusal> {
        let user = match self {
            Self::Users(users) => users.find(headers).ok_or(Refusal::Unauthenticated)?,
            Self::Anonymous { hosts } => {
                let host = text(headers, header::HOST);
                let name = host_name(host).to_lowercase();
                if !is_loopback(&name) && !hosts.contains(&name) {
                    return Err(Refusal::ForeignHost(name));
                }
                User::ANONYMOUS
            }
        };
        // A browser sends the password to whatever page asks for this address, but says which page asked.
        if method.is_safe() || is_same_origin(headers) { Ok(user) } else { Err(Refusal::ForeignOrigin) }
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The name in a `Host`, without its port.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

fn is_loopback(name: &str) -> bool {
    name == "localhost" || name.parse().is_ok_and(|address: std::net::IpAddr| address.to_canonical().is_loopback())
}

/// Whether a request that changes something comes from a page of this console. A program sends no origin.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let site = text(headers, header::HeaderName::from_static("sec-fetch-site"));
    let origin = text(headers, header::ORIGIN);
    let host = text(headers, header::HOST);
    let is_ours = origin.split_once("://").is_some_and(|(_, named)| named.eq_ignore_ascii_case(host));
    (site.is_empty() || site == "same-origin") && (is_ours || (origin.is_empty() && site.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn options(address: &str) -> ConsoleOptions {
        ConsoleOptions {
            console_addr: address.parse().unwrap(),
            console_users_file: None,
            console_anonymous: false,
            console_hosts: Vec::new(),
            console_actions: false,
        }
    }

    #[test]
    fn a_reachable_address_requires_users() {
        assert!(Access::new(&options("127.0.0.1:1")).is_ok());
        let error = Access::new(&options("0.0.0.0:1")).unwrap_err().to_string();
        assert!(error.contains("set CONSOLE_USERS_FILE"), "{error}");
        assert!(Access::new(&ConsoleOptions { console_anonymous: true, ..options("0.0.0.0:1") }).is_ok());
        let error = Access::new(&ConsoleOptions { console_actions: true, ..options("127.0.0.1:1") }).unwrap_err();
        assert!(error.to_string().starts_with("CONSOLE_ACTIONS needs users"), "{error}");
    }

    #[test]
    fn without_tokens_the_host_is_checked() {
        let named = ConsoleOptions { console_hosts: vec!["Console.Bank".into()], ..options("127.0.0.1:1") };
        let access = Access::new(&named).unwrap();
        for (host, expected) in [
            ("localhost:8082", true),
            ("127.0.0.1:8082", true),
            ("[::1]:8082", true),
            ("console.bank", true),
            ("evil.example:8082", false),
            ("localhost.evil.example", false),
            ("", false),
        ] {
            assert_eq!(access.check(&Method::GET, &headers(&[("host", host)])).is_ok(), expected, "{host}");
        }
    }

    #[test]
    fn a_page_elsewhere_changes_nothing() {
        let access = Access::new(&options("127.0.0.1:1")).unwrap();
        for (sent, expected) in [
            (&[][..], true),
            (&[("origin", "http://localhost:8082"), ("sec-fetch-site", "same-origin")], true),
            (&[("origin", "http://localhost:8082")], true),
            (&[("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")], false),
            (&[("origin", "http://localhost:9999"), ("sec-fetch-site", "same-site")], false),
            (&[("origin", "null")], false),
            (&[("sec-fetch-site", "none")], false),
        ] {
            let all = headers(&[&[("host", "localhost:8082")], sent].concat());
            assert_eq!(access.check(&Method::POST, &all).is_ok(), expected, "{sent:?}");
            assert!(access.check(&Method::GET, &all).is_ok());
        }
    }
}
