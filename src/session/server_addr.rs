//! Where a server is, and the credentials that its URL carries.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use zeroize::{Zeroize, Zeroizing};

use crate::secret::Secret;

/// The port when a `nats` or `tls` URL names none; it is 80 for `ws` and 443 for `wss`.
pub const DEFAULT_PORT: u16 = 4222;

/// A server's address: `nats://user:password@host:port`, with everything but the host optional.
///
/// `tls://` asks for TLS, `ws://` and `wss://` for WebSocket without and with it; only those two
/// may have a path. A user without a password is a token. `Display` and `Debug` never show the
/// credentials.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ServerAddr {
    scheme: Scheme,
    host: String,
    port: u16,
    path: String,
    credentials: Option<UrlCredentials>,
    tls_name: Option<String>,
}

/// Credentials out of a URL.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UrlCredentials {
    /// `user:password@`.
    UserAndPassword(String, Secret),
    /// `token@`.
    Token(Secret),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Scheme {
    Nats,
    Tls,
    Ws,
    Wss,
}

impl Scheme {
    const fn name(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    const fn default_port(self) -> u16 {
        match self {
            Self::Nats | Self::Tls => DEFAULT_PORT,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }

    const fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
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

    /// The port, that of the scheme unless the URL named one.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Where a WebSocket server listens within its host; `/` unless the URL said more.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns true for `tls://` and `wss://`.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        matches!(self.scheme, Scheme::Tls | Scheme::Wss)
    }

    /// Returns true for `ws://` and `wss://`.
    #[must_use]
    pub const fn is_websocket(&self) -> bool {
        self.scheme.is_websocket()
    }

    /// The name for which the server's certificate must be valid: the host of the URL that the
    /// user gave; for an announced bare IP address, that of the server which announced it.
    #[must_use]
    pub fn tls_name(&self) -> &str {
        self.tls_name.as_deref().unwrap_or(&self.host)
    }

    /// Parses an address that this server announced (`host:port` in INFO's `connect_urls`).
    ///
    /// It is reached as this one is: same scheme, path and credentials. An IP address is expected
    /// to show the same certificate.
    ///
    /// # Errors
    ///
    /// [`ServerAddrError`]
    pub fn announced(&self, place: &str) -> Result<Self, ServerAddrError> {
        let (host, port) = parse_place(place, self.scheme)?;
        let is_address = host.parse::<IpAddr>().is_ok();
        Ok(Self {
            scheme: self.scheme,
            host: host.to_owned(),
            port,
            path: self.path.clone(),
            credentials: self.credentials.clone(),
            tls_name: is_address.then(|| self.tls_name().to_owned()),
        })
    }

    /// Host and port, which tell servers apart.
    pub(crate) fn place(&self) -> (&str, u16) {
        (&self.host, self.port)
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
                "ws" => (Scheme::Ws, rest),
                "wss" => (Scheme::Wss, rest),
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
        let (place, path) = match place.split_once('/') {
            Some((place, path)) if scheme.is_websocket() => (place, path),
            _ => (place.strip_suffix('/').unwrap_or(place), ""),
        };
        let (host, port) = parse_place(place, scheme)?;
        if let Some(found) = path.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
            return Err(ServerAddrError::PathCharacter(found));
        }
        let credentials = userinfo.map(parse_userinfo).transpose()?;
        Ok(Self {
            scheme,
            host: host.to_owned(),
            port,
            path: format!("/{path}"),
            credentials,
            tls_name: None,
        })
    }
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.name();
        if self.host.contains(':') {
            write!(out, "{scheme}://[{}]:{}", self.host, self.port)?;
        } else {
            write!(out, "{scheme}://{}:{}", self.host, self.port)?;
        }
        // A query may hold a secret.
        let path = self.path.split('?').next().unwrap_or_default();
        if path == "/" {
            return Ok(());
        }
        out.write_str(path)
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
    /// A scheme other than `nats`, `tls`, `ws` and `wss`.
    Scheme(String),
    /// There is no host.
    NoHost,
    /// A character that cannot stand in a host.
    HostCharacter(char),
    /// A character that cannot stand in a path.
    PathCharacter(char),
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
                    "scheme `{}` in a server address, allowed are nats, tls, ws and wss",
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
            Self::PathCharacter(found) => {
                write!(
                    out,
                    "`{}` in the path of a server address",
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

/// Takes `host:port` apart and looks at the host.
fn parse_place(place: &str, scheme: Scheme) -> Result<(&str, u16), ServerAddrError> {
    let (host, port) = split_port(place, scheme.default_port())?;
    if host.is_empty() {
        return Err(ServerAddrError::NoHost);
    }
    if let Some(found) = host
        .chars()
        .find(|c| c.is_whitespace() || c.is_control() || "/?#@[]".contains(*c))
    {
        return Err(ServerAddrError::HostCharacter(found));
    }
    if host.contains(':') && host.parse::<Ipv6Addr>().is_err() {
        return Err(ServerAddrError::HostCharacter(':'));
    }
    Ok((host, port))
}

fn split_port(place: &str, default: u16) -> Result<(&str, u16), ServerAddrError> {
    if let Some(rest) = place.strip_prefix('[') {
        let (host, after) = rest
            .split_once(']')
            .ok_or(ServerAddrError::HostCharacter('['))?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, parse_port(port)?)),
            None if after.is_empty() => Ok((host, default)),
            None => Err(ServerAddrError::HostCharacter(']')),
        };
    }
    match place.rsplit_once(':') {
        // More than one colon without brackets is an IPv6 address without a port.
        Some((host, _)) if host.contains(':') => Ok((place, default)),
        Some((host, port)) => Ok((host, parse_port(port)?)),
        None => Ok((place, default)),
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
            Secret::new(unescape(password)?),
        )),
        None => Ok(UrlCredentials::Token(Secret::new(unescape(text)?))),
    }
}

/// Resolves `%41`-style escapes.
fn unescape(text: &str) -> Result<String, ServerAddrError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
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
    String::from_utf8(std::mem::take(&mut *bytes)).map_err(|error| {
        error.into_bytes().zeroize();
        ServerAddrError::Escape
    })
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
            ("ws://h", "ws://h:80"),
            ("WSS://h/", "wss://h:443"),
            ("ws://h:8080/nats/ws", "ws://h:8080/nats/ws"),
            ("wss://[::1]/a", "wss://[::1]:443/a"),
        ] {
            assert_eq!(parsed(text).to_string(), shown, "{text}");
        }
    }

    #[test]
    fn a_path_belongs_to_websocket_and_its_query_is_not_shown() {
        let addr = parsed("wss://me:pw@h:8443/edge/nats?key=s3cret");
        assert_eq!(addr.path(), "/edge/nats?key=s3cret");
        assert_eq!(addr.to_string(), "wss://h:8443/edge/nats");
        assert!(addr.is_websocket() && addr.is_tls());
        assert_eq!(parsed("ws://h").path(), "/");
        assert!(!parsed("tls://h").is_websocket());
    }

    #[test]
    fn an_announced_address_is_reached_as_its_announcer() {
        let addr = parsed("tls://me:pw@nats.example.org:5222");
        let bare = addr.announced("10.0.0.7:4222").unwrap();
        assert_eq!(bare.to_string(), "tls://10.0.0.7:4222");
        assert_eq!(bare.tls_name(), "nats.example.org");
        assert_eq!(bare.credentials(), addr.credentials());
        let again = bare.announced("[::1]:4223").unwrap();
        assert_eq!(
            (again.host(), again.tls_name()),
            ("::1", "nats.example.org")
        );
        let named = bare.announced("other.example.org").unwrap();
        assert_eq!(named.tls_name(), "other.example.org");
        assert_eq!(named.port(), 4222);
        assert_eq!(parsed("ws://h").announced("b").unwrap().port(), 80);
        for wrong in ["", "me:pw@h:1", "s3cret@h", "h:0", "h/x", "nats://h"] {
            assert!(addr.announced(wrong).is_err(), "{wrong}");
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
                "scheme `http` in a server address, allowed are nats, tls, ws and wss",
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
            ("ws://h/a b", "` ` in the path of a server address"),
            ("ws://h/a#b", "`#` in the path of a server address"),
            (
                "ws://h:1\r\n/",
                "port `..` in a server address, allowed are 1 to 65535",
            ),
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
