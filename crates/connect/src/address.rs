//! Addresses of servers (RabbitMQ, PostgreSQL, S3, the ML API), all parsed here.
//!
//! Client libraries parse addresses in different ways, and some replace what they cannot parse by a default, such as localhost for
//! an IPv6 address. So addresses are parsed here; the parts go to the library, and an address is refused if the library finds
//! another host, port or user in it.
//!
//! Guarantees:
//! - An address has one meaning or is refused. Special characters of a password that are not percent-encoded move the border
//!   between password and host. So an `@`, `/`, `?` or `#` before the last `@` is refused, and so is a `%` that encodes nothing.
//! - No error shows a part of an address: any part may be one of the password.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::SettingError;

/// The form of a setting's address.
#[derive(Debug, Clone, Copy)]
pub struct AddressForm {
    /// The setting, such as `AMQP_URL`.
    pub name: &'static str,
    /// Its schemes.
    pub schemes: &'static [&'static str],
    /// The server, such as `RabbitMQ`.
    pub of: &'static str,
    /// An example for errors.
    pub example: &'static str,
}

/// A host to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A name to look up.
    Name(String),
    /// An address.
    Ip(IpAddr),
    /// The folder of a Unix socket.
    Socket(String),
}

/// A parsed and decoded address. Its `Debug` shows no credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// One of the form's schemes.
    pub scheme: &'static str,
    /// The user, if present.
    pub user: Option<String>,
    /// The password, if present.
    pub password: Option<String>,
    /// The host, if present.
    pub host: Option<Host>,
    /// The port, if present.
    pub port: Option<u16>,
    /// The part after the first `/` that follows the host; none without such a `/`.
    pub path: Option<String>,
    /// The parameters after the `?`, in their order.
    pub parameters: Vec<(String, String)>,
}

/// What to do about a character that is not encoded.
const ENCODE: &str = "percent-encode the special characters of its user, password and names: `%` as %25, `@` as %40, `/` as %2F, \
                      `?` as %3F, `#` as %23";

/// Why an address is refused.
enum Fault {
    /// A special character that is not encoded.
    Unencoded,
    /// Anything else.
    Of(&'static str),
}

impl AddressForm {
    /// Parses an address.
    pub fn read(&self, text: &str) -> Result<Address, SettingError> {
        self.parts(text).map_err(|fault| match fault {
            Fault::Unencoded => self.unencoded(),
            Fault::Of(cause) => self.wrong(cause),
        })
    }

    /// The error for an address that is wrong for this reason. The reason must not quote the address.
    pub fn wrong(&self, cause: &str) -> SettingError {
        let Self { name, of, example, .. } = self;
        SettingError(format!("{name} is not an address of {of} ({cause}): write it like {example}"))
    }

    /// The error for an address that a library parses differently.
    pub fn ambiguous(&self) -> SettingError {
        let Self { name, .. } = self;
        SettingError(format!("{name} can be read in more than one way: {ENCODE}"))
    }

    /// Whether a parameter is a known one of other clients that changes nothing here. `known` lists their harmless values; an empty
    /// list stands for any. Another value is refused, as it may change something.
    pub fn ignores(
        &self,
        known: &[(&'static str, &'static [&'static str])],
        name: &str,
        value: &str,
    ) -> Result<bool, SettingError> {
        match known.iter().find(|(known, _)| *known == name) {
            None => Ok(false),
            Some((_, allowed)) if allowed.is_empty() || allowed.contains(&value) => Ok(true),
            Some((known, allowed)) => {
                let allowed = allowed.join(", ");
                Err(self
                    .wrong(&format!("its parameter {known} has a value that is not supported, which are: {allowed}")))
            }
        }
    }

    fn unencoded(&self) -> SettingError {
        let Self { name, of, .. } = self;
        SettingError(format!("{name} cannot be read as an address of {of}: {ENCODE}"))
    }

    fn parts(&self, text: &str) -> Result<Address, Fault> {
        let text = text.trim();
        if text.chars().any(char::is_control) {
            return Err(Fault::Of("it holds a line break or another control character"));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(Fault::Of("it has no scheme, such as the one in front of `://`"));
        };
        let scheme = self.schemes.iter().find(|known| known.eq_ignore_ascii_case(scheme));
        let scheme = scheme.ok_or(Fault::Of("its scheme is not supported"))?;
        // HTTP clients treat a backslash as a slash.
        let borders: &[char] =
            if scheme.starts_with("http") { &['@', '/', '?', '#', '\\'] } else { &['@', '/', '?', '#'] };
        let (credentials, rest) = match rest.rsplit_once('@') {
            Some((credentials, _)) if credentials.contains(borders) => return Err(Fault::Unencoded),
            Some((credentials, rest)) => (Some(credentials), rest),
            None => (None, rest),
        };
        if rest.contains(&borders[3..]) || !is_well_encoded(text) {
            return Err(Fault::Unencoded);
        }
        let (user, password) = match credentials.map(|text| text.split_once(':').ok_or(text)) {
            None => (None, None),
            Some(Err(user)) => (Some(decoded(user)?), None),
            Some(Ok((user, password))) => (Some(decoded(user)?), Some(decoded(password)?)),
        };
        let user = user.filter(|user| !user.is_empty());
        if user.is_none() && password.is_some() && !scheme.starts_with("http") {
            return Err(Fault::Of("it has a password but no user"));
        }
        let (place, query) = match rest.split_once('?') {
            Some((place, query)) => (place, Some(query)),
            None => (rest, None),
        };
        let (authority, path) = match place.split_once('/') {
            Some((authority, path)) => (authority, Some(decoded(path)?)),
            None => (place, None),
        };
        let (host, port) = host_and_port(authority)?;
        let parameters = query.map_or(Ok(Vec::new()), parameters)?;
        Ok(Address { scheme, user, password, host, port, path, parameters })
    }
}

impl Address {
    /// The host and the port, as in a URL.
    pub fn place(&self) -> String {
        let host = self.host.as_ref().map(Host::to_string).unwrap_or_default();
        self.port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
    }

    /// The value of a parameter, if present.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Address").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

impl Host {
    /// Parses a host on its own, with or without the brackets of an IPv6 address.
    pub fn read(text: &str) -> Option<Self> {
        if text.starts_with('/') {
            return Some(Self::Socket(text.to_owned()));
        }
        if let Ok(ip) =
            text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text).parse::<Ipv6Addr>()
        {
            return Some(Self::Ip(ip.into()));
        }
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Some(Self::Ip(ip.into()));
        }
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let last = text.trim_end_matches('.').rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        // Resolvers read 127.1, 0x7f.1 and 017700000001 as addresses, each in its own way.
        let is_number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
        (!is_number && text.bytes().all(is_allowed)).then(|| Self::Name(text.to_owned()))
    }

    /// The host for a connection or a look-up, without the brackets of an IPv6 address.
    pub fn bare(&self) -> String {
        match self {
            Self::Name(text) | Self::Socket(text) => text.clone(),
            Self::Ip(ip) => ip.to_string(),
        }
    }

    /// Whether a library that found this host in the address means the same one.
    pub fn is(&self, theirs: &str) -> bool {
        match (self, Self::read(theirs)) {
            (Self::Name(ours), Some(Self::Name(theirs))) => ours.eq_ignore_ascii_case(&theirs),
            (ours, theirs) => theirs.as_ref() == Some(ours),
        }
    }
}

/// As in a URL, with brackets around an IPv6 address.
impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(ip)) => write!(formatter, "[{ip}]"),
            host => formatter.write_str(&host.bare()),
        }
    }
}

/// Whether each `%` is followed by two hexadecimal digits.
fn is_well_encoded(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        let digits = after.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

/// Encodes a text so that it can stand anywhere in an address.
pub fn percent_encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn decoded(text: &str) -> Result<String, Fault> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| Fault::Of("a part of it is not UTF-8"))?;
    if decoded.contains('\0') {
        return Err(Fault::Of("it holds a NUL byte"));
    }
    Ok(decoded.into_owned())
}

fn host_and_port(authority: &str) -> Result<(Option<Host>, Option<u16>), Fault> {
    const HOST: Fault = Fault::Of("its host is neither a name nor an IP address");
    if authority.contains(',') {
        return Err(Fault::Of(
            "it names several hosts, but one address is read: name one, or a name that leads to all of them",
        ));
    }
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(Fault::Of("the bracket of its IPv6 address is not closed"))?;
        if host.contains('%') {
            return Err(Fault::Of("its IPv6 address has a zone, which is not supported"));
        }
        let ip =
            host.parse::<Ipv6Addr>().map_err(|_| Fault::Of("what is between its brackets is not an IPv6 address"))?;
        let port = if rest.is_empty() { "" } else { rest.strip_prefix(':').ok_or(HOST)? };
        (Some(Host::Ip(ip.into())), port)
    } else {
        let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
        if port.contains(':') {
            return Err(Fault::Of("an IPv6 address stands in brackets, such as [::1]"));
        }
        let host = match host {
            "" => None,
            // Only this may be encoded, as a host cannot hold a slash otherwise.
            socket if socket.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("%2f")) => {
                Some(Host::Socket(decoded(socket)?))
            }
            host => Some(Host::read(host).ok_or(HOST)?),
        };
        (host, port)
    };
    let port = match port {
        "" => None,
        port => {
            let digits = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse::<u16>().ok()).flatten();
            Some(digits.filter(|port| *port > 0).ok_or(Fault::Of("its port is not a number from 1 to 65535"))?)
        }
    };
    Ok((host, port))
}

fn parameters(query: &str) -> Result<Vec<(String, String)>, Fault> {
    let mut read: Vec<(String, String)> = Vec::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        if parameter.contains('+') {
            return Err(Fault::Of(
                "its parameters have a `+`, which some read as a blank: write %2B, or %20 for a blank",
            ));
        }
        let (name, value) = parameter.split_once('=').ok_or(Fault::Of("one of its parameters has no `=`"))?;
        let (name, value) = (decoded(name)?, decoded(value)?);
        if read.iter().any(|(known, _)| *known == name) {
            return Err(Fault::Of("one of its parameters is there twice"));
        }
        read.push((name, value));
    }
    Ok(read)
}

#[cfg(test)]
mod tests;
