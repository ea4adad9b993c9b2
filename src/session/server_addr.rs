//! Where a server is, and the credentials that its URL carries.

use std::fmt;
use std::str::FromStr;

/// The port when a URL names none.
pub const DEFAULT_PORT: u16 = 4222;

/// A server's address: `nats://user:password@host:port`, with everything but the host optional.
///
/// `tls://` asks for TLS. A user without a password is a token. `Display` and `Debug` never show
/// the credentials.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ServerAddr {
    scheme: Scheme,
    host: String,
    port: u16,
    credentials: Option<UrlCredentials>,
}

/// Credentials out of a URL.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UrlCredentials {
    /// `user:password@`.
    UserAndPassword(String, String),
    /// `token@`.
    Token(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Scheme {
    Nats,
    Tls,
}

impl ServerAddr {
    /// Parses a list of addresses divided by commas.
    ///
    /// # Errors
    ///
    /// [`ServerAddrError`] for the first that is not an address, or for an empty list.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, ServerAddrError> {
        text.split(',').map(|one| one.trim().parse()).collect()
    }

    /// The host name or address, IPv6 without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, [`DEFAULT_PORT`] unless the URL named one.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns true for `tls://`.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        matches!(self.scheme, Scheme::Tls)
    }

    /// The credentials in the URL; they go before those in the options.
    #[must_use]
    pub const fn credentials(&self) -> Option<&UrlCredentials> {
        self.credentials.as_ref()
    }
}

impl FromStr for ServerAddr {
    type Err = ServerAddrError;

    fn from_str(text: &str) -> Result<Self, ServerAddrError> {
        let (scheme, rest) = match text.split_once("://") {
            None => (Scheme::Nats, text),
            Some((name, rest)) => match name.to_ascii_lowercase().as_str() {
                "nats" => (Scheme::Nats, rest),
                "tls" => (Scheme::Tls, rest),
                word if word.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
                    return Err(ServerAddrError::Scheme(name.to_owned()));
                }
                // It may be the beginning of a password.
                _ => return Err(ServerAddrError::Scheme("..".to_owned())),
            },
        };
        let (userinfo, place) = match rest.rsplit_once('@') {
            Some((userinfo, place)) => (Some(userinfo), place),
            None => (None, rest),
        };
        let place = place.strip_suffix('/').unwrap_or(place);
        let (host, port) = split_port(place)?;
        if host.is_empty() {
            return Err(ServerAddrError::NoHost);
        }
        if let Some(found) = host
            .chars()
            .find(|c| c.is_whitespace() || c.is_control() || "/?#[]".contains(*c))
        {
            return Err(ServerAddrError::HostCharacter(found));
        }
        if host.contains(':') && host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(ServerAddrError::HostCharacter(':'));
        }
        let credentials = userinfo.map(parse_userinfo).transpose()?;
        Ok(Self {
            scheme,
            host: host.to_owned(),
            port,
            credentials,
        })
    }
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls() { "tls" } else { "nats" };
        if self.host.contains(':') {
            write!(out, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(out, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for ServerAddr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl fmt::Debug for UrlCredentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::UserAndPassword(..) => "UserAndPassword(..)",
            Self::Token(_) => "Token(..)",
        })
    }
}

/// Why a text is no server address. The text itself is not repeated: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerAddrError {
    /// A scheme other than `nats` and `tls`.
    Scheme(String),
    /// There is no host.
    NoHost,
    /// A character that cannot stand in a host.
    HostCharacter(char),
    /// The port is not a number in `1..=65535`.
    Port(String),
    /// The user or password holds a `%` that two hexadecimal digits do not follow, or is not UTF-8.
    Escape,
}

impl fmt::Display for ServerAddrError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme(found) => {
                write!(
                    out,
                    "scheme `{}` in a server address, allowed are nats and tls",
                    found.escape_debug()
                )
            }
            Self::NoHost => out.write_str("server address without a host"),
            Self::HostCharacter(found) => {
                write!(
                    out,
                    "`{}` in the host of a server address",
                    found.escape_debug()
                )
            }
            Self::Port(found) => {
                write!(
                    out,
                    "port `{}` in a server address, allowed are 1 to 65535",
                    found.escape_debug()
                )
            }
            Self::Escape => {
                out.write_str("broken % escape in the user or password of a server address")
            }
        }
    }
}

impl std::error::Error for ServerAddrError {}

fn split_port(place: &str) -> Result<(&str, u16), ServerAddrError> {
    if let Some(rest) = place.strip_prefix('[') {
        let (host, after) = rest
            .split_once(']')
            .ok_or(ServerAddrError::HostCharacter('['))?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, parse_port(port)?)),
            None if after.is_empty() => Ok((host, DEFAULT_PORT)),
            None => Err(ServerAddrError::HostCharacter(']')),
        };
    }
    match place.rsplit_once(':') {
        // More than one colon without brackets is an IPv6 address without a port.
        Some((host, _)) if host.contains(':') => Ok((place, DEFAULT_PORT)),
        Some((host, port)) => Ok((host, parse_port(port)?)),
        None => Ok((place, DEFAULT_PORT)),
    }
}

fn parse_port(text: &str) -> Result<u16, ServerAddrError> {
    match text.parse() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        // What is no number may be a password that lacks its host.
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(ServerAddrError::Port(text.to_owned()))
        }
        _ => Err(ServerAddrError::Port("..".to_owned())),
    }
}

fn parse_userinfo(text: &str) -> Result<UrlCredentials, ServerAddrError> {
    match text.split_once(':') {
        Some((user, password)) => Ok(UrlCredentials::UserAndPassword(
            unescape(user)?,
            unescape(password)?,
        )),
        None => Ok(UrlCredentials::Token(unescape(text)?)),
    }
}

/// Resolves `%41`-style escapes.
fn unescape(text: &str) -> Result<String, ServerAddrError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(ServerAddrError::Escape);
        };
        bytes.push(u8::try_from((high << 4) | low).map_err(|_| ServerAddrError::Escape)?);
    }
    String::from_utf8(bytes).map_err(|_| ServerAddrError::Escape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> ServerAddr {
        text.parse().unwrap()
    }

    #[test]
    fn scheme_and_port_have_defaults() {
        for (text, shown) in [
            ("localhost", "nats://localhost:4222"),
            ("nats://h:1", "nats://h:1"),
            ("TLS://h/", "tls://h:4222"),
            ("[::1]", "nats://[::1]:4222"),
            ("nats://[::1]:4223", "nats://[::1]:4223"),
            ("::1", "nats://[::1]:4222"),
        ] {
            assert_eq!(parsed(text).to_string(), shown, "{text}");
        }
    }

    #[test]
    fn a_password_in_the_wrong_place_is_not_repeated() {
        for text in ["nats://me:hunter2", "me:hunter2://x@h", "nats://h:hunter2"] {
            let error = text.parse::<ServerAddr>().unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn credentials_come_out_of_the_url_and_are_never_shown() {
        let addr = parsed("nats://me:p%40ss@h");
        let expected = UrlCredentials::UserAndPassword("me".into(), "p@ss".into());
        assert_eq!(addr.credentials(), Some(&expected));
        assert_eq!(format!("{addr} {addr:?}"), "nats://h:4222 nats://h:4222");
        assert!(!format!("{:?}", addr.credentials()).contains("p@ss"));
        assert_eq!(
            parsed("s3cret@h").credentials(),
            Some(&UrlCredentials::Token("s3cret".into()))
        );
    }

    #[test]
    fn a_bad_address_says_what_was_found_and_what_is_allowed() {
        for (text, expected) in [
            (
                "http://h",
                "scheme `http` in a server address, allowed are nats and tls",
            ),
            ("nats://", "server address without a host"),
            (
                "h:0",
                "port `0` in a server address, allowed are 1 to 65535",
            ),
            (
                "h:+1",
                "port `..` in a server address, allowed are 1 to 65535",
            ),
            (
                "h:99999",
                "port `99999` in a server address, allowed are 1 to 65535",
            ),
            ("h/x", "`/` in the host of a server address"),
            // What is shown of a host with a bracket would not read back.
            ("[[x]", "`[` in the host of a server address"),
            ("nats://x]:1", "`]` in the host of a server address"),
            (
                "a%zz@h",
                "broken % escape in the user or password of a server address",
            ),
        ] {
            assert_eq!(
                text.parse::<ServerAddr>().unwrap_err().to_string(),
                expected,
                "{text}"
            );
        }
        assert!(ServerAddr::parse_list("a,,b").is_err());
        assert_eq!(ServerAddr::parse_list("a, b").unwrap().len(), 2);
    }
}
