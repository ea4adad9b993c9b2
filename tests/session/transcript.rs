//! Runs a conversation that is written down line by line: what happens to a session, and what it does.
//!
//! Between two things that happen, the transcript names everything that came out, and nothing else.
//! `README.md` in `transcripts/` is the reference of the format.

use std::collections::VecDeque;
use std::time::Duration;

use natseq::session::{
    Action, Auth, Credentials, CredentialsError, Event, LinkError, OutboxLimits, ServerAddr,
    SessionOptions,
};
use natseq::subject::{Filter, QueueGroup, SubjectRef};
use natseq::wire::encode::Publish;
use natseq::wire::{ClientOp, Limits, Parser, Step};

use crate::owner::{Output, Owner};

/// How the bytes of both sides are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// A line at a time.
    Lines,
    /// A byte at a time.
    Bytes,
    /// What a server says in a row comes at once.
    Joined,
}

/// Wake-ups between two moments that a transcript names.
const WAKES_MAX: usize = 10_000;

struct Run {
    options: SessionOptions,
    owner: Option<Owner>,
    cut: Cut,
    /// What came out and was not named yet: its kind, and how a transcript says it.
    out: VecDeque<(String, String)>,
    /// What servers said in a row.
    said: Vec<(u64, Vec<u8>)>,
    /// Links that take nothing.
    blocked: Vec<u64>,
    readers: Vec<(u64, Parser, Vec<u8>)>,
}

/// Runs a transcript.
///
/// # Errors
///
/// The first line that is not as it says, what was expected and what was found.
pub(crate) fn run(text: &str, cut: Cut) -> Result<(), String> {
    let mut options = SessionOptions::new(Vec::new());
    options.keeps_server_order = true;
    let mut run = Run {
        options,
        owner: None,
        cut,
        out: VecDeque::new(),
        said: Vec::new(),
        blocked: Vec::new(),
        readers: Vec::new(),
    };
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        run.line(line)
            .map_err(|error| format!("line {}, `{line}`: {error}", index + 1))?;
    }
    run.hear()?;
    run.check_silence()
        .map_err(|error| format!("at the end: {error}"))
}

impl Run {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some((link, text)) = said(line, " S: ") {
            let bytes = (text.replace('|', "\r\n") + "\r\n").into_bytes();
            if self.said.is_empty() {
                self.before_input()?;
            }
            match self.said.last_mut() {
                Some((last, said)) if *last == link && self.cut == Cut::Joined => {
                    said.extend_from_slice(&bytes);
                }
                _ => self.said.push((link, bytes)),
            }
            return Ok(());
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if word == "options" {
            return self.option(rest);
        }
        if said(line, " C: ").is_some() || EXPECTED.contains(&word) {
            self.hear()?;
            return self.expect(line);
        }
        if word == "is" {
            self.hear()?;
            return self.is(rest);
        }
        self.before_input()?;
        self.happens(word, rest)?;
        self.collect();
        Ok(())
    }

    fn before_input(&mut self) -> Result<(), String> {
        self.hear()?;
        self.check_silence()
    }

    fn check_silence(&self) -> Result<(), String> {
        match self.out.front() {
            None => Ok(()),
            Some((_, text)) => Err(format!("before it came `{text}`, which no line names")),
        }
    }

    fn owner(&mut self) -> Result<&mut Owner, String> {
        self.owner.as_mut().ok_or_else(|| "no session yet".into())
    }

    /// Lets the session hear what was said.
    fn hear(&mut self) -> Result<(), String> {
        let step = if self.cut == Cut::Bytes {
            1
        } else {
            usize::MAX
        };
        for (link, bytes) in std::mem::take(&mut self.said) {
            let owner = self.owner()?;
            for piece in bytes.chunks(step) {
                owner.read(link, piece);
            }
            self.collect();
        }
        Ok(())
    }

    fn option(&mut self, rest: &str) -> Result<(), String> {
        let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
        let options = &mut self.options;
        match name {
            "retries_first_connect" => options.retries_first_connect = true,
            "ignores_discovered" => options.discovers_servers = false,
            "tls_required" => options.is_tls_required = true,
            "verbose" => options.verbose = true,
            "restores_refused" => options.restores_refused = true,
            "asks_for_credentials" => options.auth = Auth::Asked,
            "user" => {
                let (user, password) = value.split_once(' ').ok_or("user password")?;
                options.auth = Auth::Fixed(Credentials::user_and_password(user, password));
            }
            "attempts_max" => options.redial.attempts_max = Some(number(value)?),
            "pings_out_max" => {
                options.keepalive.pings_out_max =
                    u32::try_from(number(value)?).map_err(|error| error.to_string())?;
            }
            "ping_interval" => options.keepalive.ping_interval = duration(value)?,
            "connect_timeout" => options.connect_timeout = duration(value)?,
            "move_overlap" => options.move_overlap = duration(value)?,
            _ => return Err("unknown option".into()),
        }
        Ok(())
    }

    /// Something happens to the session.
    fn happens(&mut self, word: &str, rest: &str) -> Result<(), String> {
        if word == "servers" {
            let servers = ServerAddr::parse_list(rest).map_err(|error| error.to_string())?;
            if let Some(owner) = &mut self.owner {
                owner.session.set_servers(servers, owner.now);
                owner.act();
                return Ok(());
            }
            self.options.servers = servers;
            let options = self.options.clone();
            let mut owner = Owner::new(options, OutboxLimits::default(), 1);
            owner.act();
            self.owner = Some(owner);
            return Ok(());
        }
        let words: Vec<&str> = rest.split(' ').collect();
        let first = words.first().copied().unwrap_or_default();
        match (word, words.as_slice()) {
            ("blocked", _) => self.blocked.push(number(first)?),
            ("unblocked", _) => {
                let link = number(first)?;
                self.blocked.retain(|blocked| *blocked != link);
            }
            _ => {
                let owner = self.owner()?;
                act(owner, word, rest, &words)?;
                owner.act();
            }
        }
        Ok(())
    }

    /// Turns what came out into lines.
    fn collect(&mut self) {
        let Some(owner) = &mut self.owner else {
            return;
        };
        let at_most = if self.cut == Cut::Bytes {
            1
        } else {
            usize::MAX
        };
        let links: Vec<u64> = owner.sockets.keys().copied().collect();
        let mut lines = Vec::new();
        for link in links {
            while !self.blocked.contains(&link) {
                let bytes = owner.write(link, at_most);
                if bytes.is_empty() {
                    break;
                }
                let index = self.readers.iter().position(|(of, _, _)| *of == link);
                let index = index.unwrap_or_else(|| {
                    let parser = Parser::of_client(Limits::CLIENT_OPS);
                    self.readers.push((link, parser, Vec::new()));
                    self.readers.len() - 1
                });
                let (_, parser, unread) = &mut self.readers[index];
                unread.extend_from_slice(&bytes);
                while let Ok(Step::Frame(frame)) = parser.next(unread) {
                    let op = said_by_client(&frame.client_op(unread));
                    unread.drain(..frame.len());
                    lines.push((format!("{link} C:"), format!("{link} C: {op}")));
                }
            }
        }
        for output in owner.outputs.drain(..) {
            self.out.extend(line_of(&output));
        }
        self.out.extend(lines);
    }

    /// Something must have come out.
    fn expect(&mut self, line: &str) -> Result<(), String> {
        let kind = kind(line);
        let index = self.out.iter().position(|(of, _)| *of == kind);
        let Some((_, found)) = index.and_then(|index| self.out.remove(index)) else {
            let rest: Vec<_> = self.out.iter().map(|(_, text)| text.as_str()).collect();
            return Err(format!("nothing of the kind came, only {rest:?}"));
        };
        let is_same = match line.strip_suffix('*') {
            Some(start) => found.starts_with(start),
            None => found == line,
        };
        if is_same {
            Ok(())
        } else {
            Err(format!("found `{found}`"))
        }
    }

    /// A state must be so.
    fn is(&mut self, rest: &str) -> Result<(), String> {
        let owner = self.owner()?;
        let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
        let found = match name {
            "connected" | "unconnected" => {
                let is_connected = owner.session.is_connected();
                if is_connected {
                    "connected"
                } else {
                    "unconnected"
                }
                .to_owned()
            }
            "waiting" => format!("waiting {}", owner.outbox.waiting_messages()),
            "subscribed" => format!("subscribed {}", owner.session.subscriptions_len()),
            "dialing" => {
                let servers = owner.session.servers();
                let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
                format!("dialing {}", servers.join(" "))
            }
            "max_payload" => format!("max_payload {}", owner.session.info().max_payload),
            "due" => {
                let due = owner.session.poll_timeout().ok_or("it will never wake")?;
                let due = due.saturating_sub(owner.now);
                let (from, to) = value.split_once(' ').unwrap_or((value, value));
                let is_within = due >= duration(from)? && due <= duration(to)?;
                return if is_within {
                    Ok(())
                } else {
                    Err(format!("found {due:?}"))
                };
            }
            _ => return Err("unknown state".into()),
        };
        if found == rest {
            Ok(())
        } else {
            Err(format!("found `{found}`"))
        }
    }
}

/// Words that begin a line about what came out.
const EXPECTED: &[&str] = &[
    "dial", "tls", "ask", "hang", "finish", "told", "got", "answered",
];

fn act(owner: &mut Owner, word: &str, rest: &str, words: &[&str]) -> Result<(), String> {
    let first = words.first().copied().unwrap_or_default();
    match (word, words) {
        ("@", [moment]) => wait(owner, moment)?,
        ("open", _) => owner.opened(number(first)?),
        ("secure", _) => owner.tls_started(number(first)?),
        ("lose", [link]) => owner.lost(number(link)?, LinkError::Closed),
        ("credentials", [link, how, value @ ..]) => {
            let credentials = match (*how, value) {
                ("token", [token]) => Ok(Credentials::token(*token)),
                ("none", []) => Err(CredentialsError::Owner("not today".into())),
                _ => return Err("token T, or none".into()),
            };
            let (link, now) = (number(link)?, owner.now);
            owner
                .session
                .handle_credentials(link, now, credentials, &mut owner.outbox);
        }
        ("subscribe", [filter, group @ ..]) => {
            let filter = Filter::new(filter).map_err(|error| error.to_string())?;
            let group = group.first().map(|group| QueueGroup::new(group));
            let group = group.transpose().map_err(|error| error.to_string())?;
            let sid = owner.session.subscribe(filter, group, 0, &mut owner.outbox);
            sid.ok_or("no room")?;
        }
        ("unsubscribe", [sid]) => {
            owner.session.unsubscribe(number(sid)?, &mut owner.outbox);
        }
        ("limit", [sid, max]) => {
            let (sid, max) = (number(sid)?, number(max)?);
            owner.session.limit(sid, max, &mut owner.outbox);
        }
        ("drain", ["all"]) => owner.session.drain_others(|_| false, &mut owner.outbox),
        ("drain", [sid]) => owner.session.drain(number(sid)?, &mut owner.outbox),
        ("forget", [sid]) => owner.session.forget(number(sid)?),
        ("publish", _) => {
            let (subject, payload) = rest.split_once('|').ok_or("subject|payload")?;
            let subject = SubjectRef::new(subject).map_err(|error| error.to_string())?;
            let message = Publish::new(subject, payload.as_bytes());
            owner
                .outbox
                .publish(&message, None)
                .map_err(|full| format!("{full:?}"))?;
        }
        ("flush", _) => {
            owner.outbox.ping().ok_or("no connection")?;
        }
        ("reconnect", _) => owner.session.reconnect(owner.now, &mut owner.outbox),
        ("close", _) => owner.session.close(&mut owner.outbox),
        _ => return Err("unknown line".into()),
    }
    Ok(())
}

/// Lets time pass as an owner does: at each moment that the session names it is asked.
fn wait(owner: &mut Owner, moment: &str) -> Result<(), String> {
    let due = owner.session.poll_timeout();
    let end = match moment {
        "due" => due.ok_or("it will never wake")?,
        later => owner.now + duration(later.strip_prefix('+').ok_or("+duration, or due")?)?,
    };
    for _ in 0..WAKES_MAX {
        let due = owner.session.poll_timeout().filter(|due| *due <= end);
        owner.now = due.unwrap_or(end);
        owner.act();
        if due.is_none() {
            return Ok(());
        }
    }
    Err("it wakes without end".into())
}

fn said<'a>(line: &'a str, by: &str) -> Option<(u64, &'a str)> {
    let (link, text) = line.split_once(by)?;
    Some((link.parse().ok()?, text))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 1),
        None => (text.strip_suffix('s').ok_or("s or ms")?, 1_000),
    };
    Ok(Duration::from_millis(number(digits)? * unit))
}

/// Lines of one kind keep their order.
fn kind(line: &str) -> String {
    if let Some((link, _)) = said(line, " C: ") {
        return format!("{link} C:");
    }
    let word = line.split(' ').next().unwrap_or_default();
    match word {
        "told" | "got" | "answered" => word.to_owned(),
        _ => "action".to_owned(),
    }
}

fn said_by_client(op: &ClientOp<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match op {
        ClientOp::Connect { json } => format!("CONNECT {}", text(json)),
        ClientOp::Pub(message) => {
            let subject = text(message.subject);
            format!("PUB {subject}|{}", text(message.payload))
        }
        ClientOp::Sub {
            subject,
            queue_group,
            sid,
        } => {
            let group = queue_group.map(|group| text(group) + " ");
            let group = group.unwrap_or_default();
            format!("SUB {} {group}{}", text(subject), text(sid))
        }
        ClientOp::Unsub { sid, max } => {
            let max = max.map(|max| format!(" {}", text(max))).unwrap_or_default();
            format!("UNSUB {}{max}", text(sid))
        }
        ClientOp::Ping => "PING".into(),
        ClientOp::Pong => "PONG".into(),
        other => format!("{other:?}"),
    }
}

fn line_of(output: &Output) -> Option<(String, String)> {
    let line = match output {
        Output::Action(action) => match action {
            Action::Dial { link, server } => format!("dial {link} {server}"),
            Action::StartTls { link, .. } => format!("tls {link}"),
            Action::Authenticate { link, nonce, .. } => match nonce {
                Some(nonce) => format!("ask {link} {nonce}"),
                None => format!("ask {link}"),
            },
            Action::Hang { link } => format!("hang {link}"),
            Action::Finish => "finish".into(),
            // Told as what the link says.
            _ => return None,
        },
        Output::Event(event) => format!("told {}", told(event)),
        Output::Answered(number) => format!("answered {number}"),
        Output::Pong(_) | Output::Entered(..) => return None,
        Output::Message(message, _) => {
            let sid = message.sid_number()?;
            format!("got {sid} {}", String::from_utf8_lossy(message.payload()))
        }
    };
    Some((kind(&line), line))
}

pub(crate) fn told(event: &Event) -> String {
    match event {
        Event::Connected { server, generation } => format!("connected {generation} {server}"),
        Event::Disconnected { reason, in_doubt } => {
            format!("disconnected, {in_doubt} in doubt: {reason}")
        }
        Event::DialFailed { server, reason } => format!("failed {server}: {reason}"),
        Event::ServerError { text } => format!("error {text}"),
        Event::LameDuck => "lame duck".into(),
        Event::ServersDiscovered { servers } => {
            let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
            format!("discovered {}", servers.join(" "))
        }
        Event::Moved(moved) => format!(
            "moved {} {}, {} in doubt, {} copies",
            moved.from, moved.to, moved.in_doubt, moved.copies
        ),
        Event::SubscriptionRefused(refusal) => {
            format!("refused {} sid {:?}", refusal.subject, refusal.sid)
        }
        Event::PublishRefused(refusal) => format!("refused message {}", refusal.subject),
        Event::PayloadTooLarge {
            discarded_messages,
            max,
        } => format!("too large: {discarded_messages} discarded, {max} bytes at most"),
        Event::Closed {
            reason,
            discarded_messages,
        } => {
            let reason = reason.as_ref();
            let mut text = "closed".to_owned();
            if let Some(reason) = reason {
                text += &format!(": {reason}");
            }
            if *discarded_messages > 0 {
                text += &format!(", {discarded_messages} discarded");
            }
            text
        }
        other => format!("{other:?}"),
    }
}
