//! One client's side of the protocol: its handshake, its rights, and what a server says to it.

use crate::secret::is_same;
use crate::subject::{is_literal, is_pattern};
use crate::wire::encode::{self, server};
use crate::wire::handshake::{Connect, INVALID_PROTOCOL, ServerInfo};
use crate::wire::{ClientOp, FrameError, PubView};

use super::options::{BrokerOptions, Credentials, ServerVersion};

#[derive(Debug)]
pub(super) struct Dialogue {
    credentials: Option<Credentials>,
    /// What is left to say behind the first PONG.
    connect_info: Option<ServerInfo>,
    client: Connect,
    is_connected: bool,
    version: ServerVersion,
}

/// What an operation asks of the hub.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reaction<'a> {
    Nothing,
    Publish(PubView<'a>),
    Subscribe {
        subject: &'a [u8],
        queue_group: Option<&'a [u8]>,
        sid: &'a [u8],
    },
    Unsubscribe {
        sid: &'a [u8],
        max: Option<u64>,
    },
    /// All subscriptions end: the client introduced itself again.
    Forget,
    Close,
}

impl Dialogue {
    pub(super) fn new(options: &BrokerOptions, info: &ServerInfo) -> Self {
        let has_connect_info = options.sends_connect_info && options.version.is_2_12();
        let connect_info = has_connect_info.then(|| {
            let mut info = info.clone();
            info.connect_info = true;
            info.remote_account = "$G".to_owned();
            info
        });
        Self {
            credentials: options.credentials.clone(),
            connect_info,
            client: Connect::default(),
            is_connected: false,
            version: options.version,
        }
    }

    /// Takes an operation; answers to the client itself are appended to `out`. `has_sid` tells whether
    /// the client has a subscription of that name.
    pub(super) fn handle<'a>(
        &mut self,
        op: ClientOp<'a>,
        has_sid: impl Fn(&[u8]) -> bool,
        out: &mut Vec<u8>,
    ) -> Reaction<'a> {
        match op {
            ClientOp::Connect { json } => self.handle_connect(json, out),
            ClientOp::Pub(message) => self.handle_publish(message, out),
            ClientOp::Sub {
                subject,
                queue_group,
                sid,
            } => self.handle_subscribe((subject, queue_group, sid), has_sid(sid), out),
            ClientOp::Unsub { sid, max } => {
                self.confirm(out);
                Reaction::Unsubscribe {
                    sid,
                    max: max.and_then(read_max),
                }
            }
            ClientOp::Ping => {
                encode::pong(out);
                if self.is_connected
                    && self.client.protocol >= 1
                    && let Some(info) = self.connect_info.take()
                {
                    server::info(out, &info);
                }
                Reaction::Nothing
            }
            ClientOp::Info { json } => {
                if ServerInfo::parse(json).is_ok() {
                    Reaction::Nothing
                } else {
                    Reaction::Close
                }
            }
            ClientOp::Err { .. } => Reaction::Close,
            ClientOp::Pong | ClientOp::Ok => Reaction::Nothing,
        }
    }

    /// Takes a control line whose body is still to come; answers are appended to `out`.
    pub(super) fn handle_line(&self, op: &ClientOp<'_>, out: &mut Vec<u8>) {
        if let ClientOp::Pub(message) = op
            && self.client.pedantic
            && !is_literal(message.subject)
        {
            server::err(out, b"Invalid Publish Subject");
        }
    }

    /// Whether an operation may begin with `byte`: only CONNECT, before the client has introduced
    /// itself where it must.
    pub(super) const fn may_begin(&self, byte: u8) -> bool {
        self.is_admitted() || matches!(byte, b'C' | b'c')
    }

    /// A client that has to introduce itself says something else first.
    pub(super) fn handle_stranger(out: &mut Vec<u8>) {
        server::err(out, b"Authorization Violation");
    }

    /// The client broke the protocol: appends what a server says before it closes.
    pub(super) fn handle_violation(error: FrameError, out: &mut Vec<u8>) {
        if let Some(text) = error.server_answer() {
            server::err(out, text.as_bytes());
        }
    }

    /// Whether the client has introduced itself, or need not.
    pub(super) const fn is_admitted(&self) -> bool {
        self.is_connected || self.credentials.is_none()
    }

    pub(super) const fn client(&self) -> &Connect {
        &self.client
    }

    fn handle_connect<'a>(&mut self, json: &[u8], out: &mut Vec<u8>) -> Reaction<'a> {
        let Ok(connect) = self.client.updated(json) else {
            return Reaction::Close;
        };
        let refusal = connect.refusal();
        if !self.is_allowed(&connect) && refusal != Some(INVALID_PROTOCOL) {
            return refuse(out, b"Authorization Violation");
        }
        if let Some(text) = refusal {
            return refuse(out, text.as_bytes());
        }
        let is_again = self.is_connected;
        self.is_connected = true;
        self.client = connect;
        self.confirm(out);
        if is_again && self.version.forgets_on_connect() {
            Reaction::Forget
        } else {
            Reaction::Nothing
        }
    }

    fn is_allowed(&self, connect: &Connect) -> bool {
        match &self.credentials {
            None => true,
            Some(Credentials::UserAndPassword(user, password)) => {
                let is_user = is_shown(connect.user.as_deref(), user);
                let is_password = is_shown(connect.pass.as_deref(), password.expose());
                is_user & is_password
            }
            Some(Credentials::Token(token)) => {
                is_shown(connect.auth_token.as_deref(), token.expose())
            }
        }
    }

    fn handle_publish<'a>(&self, message: PubView<'a>, out: &mut Vec<u8>) -> Reaction<'a> {
        let reserved_reply = message
            .reply
            .filter(|reply| is_reserved_reply(reply, self.version));
        if is_reserved(message.subject, self.version) {
            deny(out, "Publish to", message.subject);
            return Reaction::Nothing;
        }
        if let Some(reply) = reserved_reply {
            deny(out, "Publish with Reply of", reply);
            return Reaction::Nothing;
        }
        self.confirm(out);
        Reaction::Publish(message)
    }

    fn handle_subscribe<'a>(
        &self,
        (subject, queue_group, sid): (&'a [u8], Option<&'a [u8]>, &'a [u8]),
        is_known: bool,
        out: &mut Vec<u8>,
    ) -> Reaction<'a> {
        if queue_group == Some(b"_sys_") {
            let mut text = b"Permissions Violation for Subscription to ".to_vec();
            server::quote(&mut text, subject);
            text.extend_from_slice(b" using queue \"_sys_\"");
            server::err(out, &text);
            return Reaction::Nothing;
        }
        // A subscription that is there already is not looked at again.
        if !is_known && !is_pattern(subject) {
            server::err(out, b"Invalid Subject");
            return Reaction::Nothing;
        }
        self.confirm(out);
        Reaction::Subscribe {
            subject,
            queue_group,
            sid,
        }
    }

    fn confirm(&self, out: &mut Vec<u8>) {
        if self.client.verbose {
            server::ok(out);
        }
    }
}

/// Says that publishing is not permitted.
fn deny(out: &mut Vec<u8>, what: &str, subject: &[u8]) {
    let mut text = format!("Permissions Violation for {what} ").into_bytes();
    server::quote(&mut text, subject);
    server::err(out, &text);
}

/// Subjects that servers use among themselves.
fn is_reserved(subject: &[u8], version: ServerVersion) -> bool {
    is_gateway(subject, version) || (version.is_2_11() && subject.starts_with(b"$NRG."))
}

fn is_reserved_reply(reply: &[u8], version: ServerVersion) -> bool {
    is_gateway(reply, version) || reply.starts_with(b"_R_.") || is_below(reply, b"$JS.ACK.")
}

fn is_gateway(subject: &[u8], version: ServerVersion) -> bool {
    is_below(subject, b"_GR_.") || (version.is_2_15_1() && is_below(subject, b"$GR."))
}

/// Whether something follows the beginning.
fn is_below(subject: &[u8], beginning: &[u8]) -> bool {
    subject
        .strip_prefix(beginning)
        .is_some_and(|rest| !rest.is_empty())
}

fn refuse<'a>(out: &mut Vec<u8>, text: &[u8]) -> Reaction<'a> {
    server::err(out, text);
    Reaction::Close
}

/// Reads one to nine digits; servers take anything else as "now".
fn read_max(digits: &[u8]) -> Option<u64> {
    let is_size = (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits)
        .ok()
        .filter(|_| is_size)?
        .parse()
        .ok()
}

/// Returns true when what a client shows is the secret; how long it takes does not tell how much of it
/// is right.
fn is_shown(shown: Option<&str>, secret: &str) -> bool {
    shown.is_some_and(|shown| is_same(shown, secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialogue(credentials: Option<Credentials>) -> Dialogue {
        let options = BrokerOptions {
            credentials,
            ..BrokerOptions::default()
        };
        Dialogue::new(&options, &ServerInfo::default())
    }

    fn connect(dialogue: &mut Dialogue, json: &str) -> (bool, String) {
        let mut out = Vec::new();
        let reaction = dialogue.handle(
            ClientOp::Connect {
                json: json.as_bytes(),
            },
            |_| false,
            &mut out,
        );
        (reaction == Reaction::Close, String::from_utf8(out).unwrap())
    }

    #[test]
    fn credentials_are_required_where_they_are_set() {
        let token = || Some(Credentials::Token("t".into()));
        let refused = "-ERR 'Authorization Violation'\r\n";
        assert_eq!(
            connect(&mut dialogue(token()), "{}"),
            (true, refused.into())
        );
        let wrong = r#"{"auth_token":"x"}"#;
        assert_eq!(
            connect(&mut dialogue(token()), wrong),
            (true, refused.into())
        );
        let right = r#"{"auth_token":"t","verbose":false}"#;
        assert_eq!(
            connect(&mut dialogue(token()), right),
            (false, String::new())
        );
        let stranger = dialogue(token());
        assert!(!stranger.may_begin(b'P') && stranger.may_begin(b'c'));
        let mut known = dialogue(token());
        connect(&mut known, right);
        assert!(known.may_begin(b'P') && dialogue(None).may_begin(b'P'));
    }

    #[test]
    fn the_second_info_follows_the_first_pong_only() {
        let mut dialogue = dialogue(None);
        connect(&mut dialogue, r#"{"verbose":false,"protocol":1}"#);
        let mut out = Vec::new();
        dialogue.handle(ClientOp::Ping, |_| false, &mut out);
        assert!(out.starts_with(b"PONG\r\nINFO {"), "{}", out.escape_ascii());
        out.clear();
        dialogue.handle(ClientOp::Ping, |_| false, &mut out);
        assert_eq!(out, b"PONG\r\n");
    }

    #[test]
    fn a_second_connect_ends_the_subscriptions() {
        let mut dialogue = dialogue(None);
        let json = ClientOp::Connect { json: b"{}" };
        assert_eq!(
            dialogue.handle(json, |_| false, &mut Vec::new()),
            Reaction::Nothing
        );
        assert_eq!(
            dialogue.handle(json, |_| false, &mut Vec::new()),
            Reaction::Forget
        );
    }

    #[test]
    fn secrets_do_not_show() {
        let shown = format!("{:?}", dialogue(Some(Credentials::Token("canary".into()))));
        assert!(!shown.contains("canary"));
    }
}
