//! Server addresses: what is shown reads back as the same place, and secrets are never shown.

use natseq::session::{DEFAULT_PORT, ServerAddr, UrlCredentials};

/// A word that stands for a password in the seeds: no error may repeat it.
const SECRET: &str = "hunter2";

/// Reads the text as an address and as a list of addresses.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let list = ServerAddr::parse_list(text);
    let each: Result<Vec<ServerAddr>, _> = text.split(',').map(|one| one.trim().parse()).collect();
    assert_eq!(list, each, "{text:?}");
    match text.parse::<ServerAddr>() {
        Ok(addr) => check(text, &addr),
        Err(error) => {
            let told = format!("{error} {error:?}");
            assert!(!told.contains(SECRET), "{text:?}: {told}");
        }
    }
}

fn check(text: &str, addr: &ServerAddr) {
    let (scheme, default_port) = match (addr.is_websocket(), addr.is_tls()) {
        (false, false) => ("nats", DEFAULT_PORT),
        (false, true) => ("tls", DEFAULT_PORT),
        (true, false) => ("ws", 80),
        (true, true) => ("wss", 443),
    };
    let host = addr.host();
    let place = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let path = addr.path().split('?').next().unwrap();
    assert!(path.starts_with('/'), "{text:?}");
    assert!(addr.is_websocket() || addr.path() == "/", "{text:?}");
    let shown = addr.to_string();
    let place = format!("{scheme}://{place}:{}", addr.port());
    assert_eq!(
        shown,
        format!("{place}{}", if path == "/" { "" } else { path }),
        "{text:?}"
    );
    assert_eq!(format!("{addr:?}"), shown);
    let back: ServerAddr = shown
        .parse()
        .unwrap_or_else(|error| panic!("{shown}: {error}"));
    let parts = |addr: &ServerAddr| {
        let flags = (addr.is_websocket(), addr.is_tls());
        (flags, addr.host().to_owned(), addr.port())
    };
    assert_eq!(parts(&back), parts(addr), "{text:?}");
    assert_eq!(back.credentials(), None, "{text:?}");
    assert_eq!(back.to_string(), shown);

    assert!(!host.is_empty() && addr.port() > 0, "{text:?}");
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "/?#@".contains(c);
    assert!(!host.contains(is_odd), "{text:?}");
    let has_port =
        place.ends_with(&format!(":{default_port}")) || text.contains(&addr.port().to_string());
    assert!(has_port || text.contains(":0"), "{text:?}: {shown}");
    check_credentials(text, addr);
}

/// What stands before the last `@`, with its escapes resolved by hand.
fn check_credentials(text: &str, addr: &ServerAddr) {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let expected = rest
        .rsplit_once('@')
        .map(|(userinfo, _)| match userinfo.split_once(':') {
            Some((user, password)) => (unescaped(user), Some(unescaped(password))),
            None => (unescaped(userinfo), None),
        });
    let found = addr.credentials().map(|credentials| match credentials {
        UrlCredentials::UserAndPassword(user, password) => {
            (user.clone(), Some(password.expose().to_owned()))
        }
        UrlCredentials::Token(token) => (token.expose().to_owned(), None),
        other => panic!("unknown credentials {other:?}"),
    });
    assert_eq!(found, expected, "{text:?}");
    let debug = format!("{:?}", addr.credentials());
    let names = ["None", "Some(UserAndPassword(..))", "Some(Token(..))"];
    assert!(names.contains(&debug.as_str()), "{debug}");
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next().unwrap().as_bytes());
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}
