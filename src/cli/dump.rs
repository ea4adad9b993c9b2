//! `natseq dump`: protocol bytes, decoded.

use std::error::Error;
use std::io::{BufWriter, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use serde::{Serialize, Serializer};

use crate::wire::handshake::{Connect, HandshakeError, ServerInfo};
use crate::wire::{ClientOp, Frame, HeaderBlock, Limits, Parser, ServerOp, Step};

/// Bytes that are read from the input at a time.
const READ_BYTES: usize = 64 << 10;

/// Bytes of a payload or text that a line for people shows.
const SHOWN_BYTES_MAX: usize = 64;

/// Decode protocol bytes: what a server or a client said, one line for each operation
#[derive(Debug, Args)]
pub(super) struct DumpArgs {
    /// Who said it
    #[arg(long, value_enum)]
    from: Speaker,
    /// The bytes; standard input when left out
    file: Option<PathBuf>,
    /// Print one JSON object for each operation
    #[arg(long)]
    json: bool,
    /// Feed the parser that many bytes at a time; the output is the same
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    split: Option<u64>,
    /// Bytes of arguments that a control line may have [default: 4096 from a client, 65536 from a
    /// server]
    #[arg(long, value_name = "BYTES")]
    max_control_line: Option<usize>,
    /// Bytes of headers and payload that a message may have [default: 1 MiB from a client, 64 MiB
    /// from a server]
    #[arg(long, value_name = "BYTES")]
    max_payload: Option<usize>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Speaker {
    Server,
    Client,
}

/// Prints every operation of the input. It fails where servers refuse something, and ends where they
/// close the connection for it.
pub(super) fn run(args: &DumpArgs) -> Result<ExitCode, Box<dyn Error>> {
    let input: Box<dyn Read> = match &args.file {
        Some(path) => {
            let file = std::fs::File::open(path);
            Box::new(file.map_err(|error| format!("cannot read `{}`: {error}", path.display()))?)
        }
        None => Box::new(std::io::stdin().lock()),
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    let outcome = dump(args, input, &mut out).and_then(|code| out.flush().map(|()| code));
    match outcome {
        // Whoever reads us has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        outcome => Ok(outcome?),
    }
}

fn dump(args: &DumpArgs, mut input: impl Read, out: &mut impl Write) -> std::io::Result<ExitCode> {
    let mut parser = args.parser();
    let mut buffer = Vec::new();
    let mut chunk = vec![0; READ_BYTES];
    let step = args.split.and_then(|bytes| usize::try_from(bytes).ok());
    let mut offset = 0_u64;
    let mut code = ExitCode::SUCCESS;
    loop {
        let count = input.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        let arrived = chunk.get(..count).unwrap_or_default();
        for piece in arrived.chunks(step.unwrap_or(READ_BYTES)) {
            buffer.extend_from_slice(piece);
            let mut taken = 0_usize;
            while let Some(rest) = buffer.get(taken..).filter(|rest| !rest.is_empty()) {
                let frame = match parser.next(rest) {
                    Ok(Step::More { .. }) => break,
                    Ok(Step::Frame(frame)) => frame,
                    Err(error) => {
                        return args.refuse(out, offset, error.name(), &error.to_string());
                    }
                };
                let record = match args.from {
                    Speaker::Server => Record::of_server(offset, &frame, rest),
                    Speaker::Client => Record::of_client(offset, &frame, rest),
                };
                match record {
                    Ok(record) if args.json => {
                        serde_json::to_writer(&mut *out, &record)?;
                        writeln!(out)?;
                    }
                    Ok(record) => record.write_line(out)?,
                    Err(refusal) => {
                        code = args.refuse(out, offset, refusal.kind, &refusal.message)?;
                        if refusal.closes {
                            return Ok(code);
                        }
                    }
                }
                offset = offset.saturating_add(frame.len() as u64);
                taken = taken.saturating_add(frame.len());
            }
            buffer.drain(..taken);
        }
    }
    if buffer.is_empty() {
        return Ok(code);
    }
    let message = format!("input ends {} bytes into an operation", buffer.len());
    args.refuse(out, offset, "truncated", &message)
}

impl DumpArgs {
    fn parser(&self) -> Parser {
        let limits = match self.from {
            Speaker::Server => Limits::SERVER_OPS,
            Speaker::Client => Limits::CLIENT_OPS,
        };
        let line = self.max_control_line.unwrap_or(limits.line_bytes_max);
        let payload = self.max_payload.unwrap_or(limits.payload_bytes_max);
        let limits = limits
            .with_line_bytes_max(line)
            .with_payload_bytes_max(payload);
        match self.from {
            Speaker::Server => Parser::of_server(limits),
            Speaker::Client => Parser::of_client(limits),
        }
    }

    fn refuse(
        &self,
        out: &mut impl Write,
        offset: u64,
        kind: &str,
        message: &str,
    ) -> std::io::Result<ExitCode> {
        if self.json {
            let error = ErrorRecord {
                offset,
                error: kind,
                message,
            };
            serde_json::to_writer(&mut *out, &error)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{offset:>8} {:>6} error: {message}", "")?;
        }
        Ok(ExitCode::FAILURE)
    }
}

/// What is no operation, or is refused.
#[derive(Debug, Serialize)]
struct ErrorRecord<'a> {
    offset: u64,
    error: &'a str,
    message: &'a str,
}

/// One operation; what it does not have is left out, but a missing reply is null.
#[derive(Debug, Default, Serialize)]
struct Record<'a> {
    offset: u64,
    length: usize,
    op: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<Text<'a>>,
    #[serde(flatten)]
    body: Option<Body<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Text<'a>>,
}

/// What a message has.
#[derive(Debug, Serialize)]
struct Body<'a> {
    reply: Option<Text<'a>>,
    header_bytes: usize,
    payload_bytes: usize,
    payload: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<StatusLine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<Vec<(Text<'a>, Text<'a>)>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    header_error: Option<String>,
}

#[derive(Debug, Serialize)]
struct StatusLine<'a> {
    code: u16,
    description: Text<'a>,
}

/// Why an operation that can be told apart is refused all the same.
#[derive(Debug)]
struct Refusal {
    kind: &'static str,
    message: String,
    /// Whether servers close the connection for it.
    closes: bool,
}

impl<'a> Record<'a> {
    fn new(offset: u64, frame: &Frame) -> Self {
        Self {
            offset,
            length: frame.len(),
            op: frame.kind().name(),
            ..Self::default()
        }
    }

    fn of_server(offset: u64, frame: &Frame, bytes: &'a [u8]) -> Result<Self, Refusal> {
        let mut record = Self::new(offset, frame);
        match frame.server_op(bytes) {
            ServerOp::Info { json } => {
                check_info(json)?;
                record.json = Some(Text(json));
            }
            ServerOp::Msg(message) => {
                record.subject = Some(Text(message.subject));
                record.sid = Some(Text(message.sid));
                record.body = Some(Body::new(message.reply, message.headers, message.payload));
            }
            ServerOp::Err { text } => record.text = Some(Text(text)),
            ServerOp::Ping | ServerOp::Pong | ServerOp::Ok => {}
        }
        Ok(record)
    }

    fn of_client(offset: u64, frame: &Frame, bytes: &'a [u8]) -> Result<Self, Refusal> {
        let mut record = Self::new(offset, frame);
        match frame.client_op(bytes) {
            ClientOp::Connect { json } => {
                let connect = Connect::parse(json).map_err(|error| Refusal::json(&error))?;
                if let Some(text) = connect.refusal() {
                    return Err(Refusal {
                        kind: "connect_refused",
                        message: format!("servers refuse the CONNECT: {text}"),
                        closes: true,
                    });
                }
                record.json = Some(Text(json));
            }
            ClientOp::Pub(message) => {
                record.subject = Some(Text(message.subject));
                record.body = Some(Body::new(message.reply, message.headers, message.payload));
            }
            ClientOp::Sub {
                subject,
                queue_group,
                sid,
            } => {
                record.subject = Some(Text(subject));
                record.queue = queue_group.map(Text);
                record.sid = Some(Text(sid));
                if !crate::subject::is_pattern(subject) {
                    return Err(Refusal {
                        kind: "invalid_subject",
                        message: format!("servers refuse the subject `{}`", Text(subject)),
                        closes: false,
                    });
                }
            }
            ClientOp::Unsub { sid, max } => {
                record.sid = Some(Text(sid));
                record.max = max.map(Text);
            }
            ClientOp::Info { json } => {
                check_info(json)?;
                record.json = Some(Text(json));
            }
            ClientOp::Err { text } => record.text = Some(Text(text)),
            ClientOp::Ping | ClientOp::Pong | ClientOp::Ok => {}
        }
        Ok(record)
    }

    fn write_line(&self, out: &mut impl Write) -> std::io::Result<()> {
        write!(out, "{:>8} {:>6} {}", self.offset, self.length, self.op)?;
        let words = [
            ("", &self.subject),
            ("queue ", &self.queue),
            ("sid ", &self.sid),
            ("max ", &self.max),
            ("", &self.json),
            ("", &self.text),
        ];
        for (label, word) in words {
            if let Some(word) = word {
                write!(out, " {label}{word}")?;
            }
        }
        if let Some(body) = &self.body {
            body.write_words(out)?;
        }
        writeln!(out)
    }
}

impl<'a> Body<'a> {
    fn new(reply: Option<&'a [u8]>, block: Option<HeaderBlock<'a>>, payload: &'a [u8]) -> Self {
        let status = block.and_then(|block| block.status().ok().flatten());
        let fields = block.map(|block| {
            let fields = block.iter().filter_map(Result::ok);
            fields.map(|(name, value)| (Text(name), Text(value)))
        });
        Self {
            reply: reply.map(Text),
            header_bytes: block.map_or(0, |block| block.raw().len()),
            payload_bytes: payload.len(),
            payload: Text(payload),
            status: status.map(|status| StatusLine {
                code: status.code,
                description: Text(status.description),
            }),
            headers: fields.map(Iterator::collect),
            header_error: block
                .and_then(|block| block.check().err())
                .map(|error| error.to_string()),
        }
    }

    fn write_words(&self, out: &mut impl Write) -> std::io::Result<()> {
        if let Some(reply) = &self.reply {
            write!(out, " reply {reply}")?;
        }
        if let Some(status) = &self.status {
            write!(out, " status {} {}", status.code, status.description)?;
        }
        for (name, value) in self.headers.iter().flatten() {
            write!(out, " [{name}: {value}]")?;
        }
        if let Some(error) = &self.header_error {
            write!(out, " (headers: {error})")?;
        }
        write!(out, " {} bytes: {}", self.payload_bytes, self.payload)
    }
}

impl Refusal {
    fn json(error: &impl ToString) -> Self {
        Self {
            kind: "bad_json",
            message: error.to_string(),
            closes: true,
        }
    }
}

/// Bytes that are mostly text.
#[derive(Debug, Clone, Copy)]
struct Text<'a>(&'a [u8]);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_map([("base64", STANDARD.encode(self.0))]),
        }
    }
}

/// For people: escaped, and not all of it when it is long.
impl std::fmt::Display for Text<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.get(..SHOWN_BYTES_MAX) {
            Some(start) if self.0.len() > SHOWN_BYTES_MAX => {
                write!(out, "{}...", start.escape_ascii())
            }
            _ => write!(out, "{}", self.0.escape_ascii()),
        }
    }
}

/// How long an INFO is, is for `--max-control-line` to say.
fn check_info(json: &[u8]) -> Result<(), Refusal> {
    match ServerInfo::parse(json) {
        Err(error @ HandshakeError::Json(_)) => Err(Refusal::json(&error)),
        Ok(_) | Err(_) => Ok(()),
    }
}
