//! Generated sessions against a real server, held against the embedded one.

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::broker::{Broker, BrokerOptions, ServerVersion};
use crate::session::ServerAddr;
use crate::wire::Limits;
use crate::wire::handshake::ServerInfo;

use super::FuzzArgs;
use super::case::{Case, Ended};
use super::converse::{Answer, End, converse, read_info};
use super::minimise::minimise;
use super::report::{Finding, Outcome, Record, Summary, Verdict, finish, print};

/// Sessions of one run unless `--sessions` says otherwise.
const SESSIONS: u64 = 1_000;

/// How often a server whose answer differs is asked again: some answers are its free choice.
const REPEATS: usize = 16;

/// The longest wait for each attempt while a finding is made smaller.
const MINIMISE_PATIENCE_MAX: Duration = Duration::from_millis(300);

/// A server reads this many bytes first; what lies in several reads is cut there.
const FIRST_READ_BYTES: usize = 512;

pub(super) async fn run(
    args: &FuzzArgs,
    servers: Vec<ServerAddr>,
) -> Result<ExitCode, Box<dyn Error>> {
    let target = Target::find(args, &servers).await?;
    let mut out = std::io::stdout();
    let replayed = args.replay.as_deref().map(Case::read).transpose()?;
    let mut summary = Summary::new(replayed.as_ref().map_or(args.seed, |case| case.seed));
    summary.server_version.clone_from(&target.info.version);
    let count = if replayed.is_some() {
        1
    } else {
        args.sessions.unwrap_or(SESSIONS)
    };
    let fuzzing = async {
        let mut before = None;
        for index in 0..count {
            let case = match &replayed {
                Some(case) => case.clone(),
                None => Case::of_client(args.seed.wrapping_add(index))?,
            };
            summary.count(&case.mutations);
            let outcome = target.judge(&case).await;
            summary.note(&outcome);
            match outcome {
                Outcome::Agreed | Outcome::Explained(_) => before = Some(case),
                Outcome::Differs => {
                    target.tell(args, case, &mut out).await?;
                    before = None;
                }
                Outcome::Gone => {
                    // It did not even greet: what it heard before has ended it.
                    let culprit = before.take().unwrap_or(case);
                    return target.tell_gone(args, &culprit, &mut out);
                }
            }
        }
        if let Some(last) = before
            && target.greets().await.is_none()
        {
            summary.note(&Outcome::Gone);
            target.tell_gone(args, &last, &mut out)?;
        }
        Ok::<(), Box<dyn Error>>(())
    };
    tokio::select! {
        outcome = fuzzing => outcome?,
        _ = crate::cli::interrupted() => {}
    }
    finish(&mut std::io::stdout(), summary, args.json)
}

/// The server under test, and what is known of it.
struct Target {
    address: SocketAddr,
    info: ServerInfo,
    version: ServerVersion,
    limits: Limits,
    patience: Duration,
}

impl Target {
    async fn find(args: &FuzzArgs, servers: &[ServerAddr]) -> Result<Self, Box<dyn Error>> {
        let [server] = servers else {
            return Err("one server can be fuzzed at a time".into());
        };
        if server.is_tls() {
            return Err(format!("`{server}`: fuzzing through TLS is not possible").into());
        }
        let found = tokio::net::lookup_host((server.host(), server.port())).await;
        let addresses: Vec<SocketAddr> = found
            .map_err(|error| format!("cannot find `{server}`: {error}"))?
            .collect();
        let is_ours = addresses.iter().all(|address| address.ip().is_loopback());
        if !is_ours && !args.i_own_this_server {
            let text = "is not on this machine; --i-own-this-server allows to fuzz it";
            return Err(format!("`{server}` {text}").into());
        }
        let address = *addresses.first().ok_or("the name has no address")?;
        let mut stream = TcpStream::connect(address)
            .await
            .map_err(|error| format!("cannot connect to `{server}`: {error}"))?;
        let info = read_info(&mut stream, args.patience)
            .await
            .ok_or_else(|| format!("`{server}` does not begin with INFO"))?;
        if info.auth_required || info.tls_required {
            return Err(
                format!("`{server}` requires credentials or TLS: fuzz one that does not").into(),
            );
        }
        let payload = usize::try_from(info.max_payload).unwrap_or(usize::MAX);
        let version = info.version.parse().unwrap_or_default();
        Ok(Self {
            address,
            version,
            limits: Limits::CLIENT_OPS.with_payload_bytes_max(payload),
            info,
            patience: args.patience,
        })
    }

    /// Compares both servers' answers to a session.
    async fn judge(&self, case: &Case) -> Outcome {
        let session = Ended::new(&case.bytes(), self.limits);
        let expected = self.expected(&session).await;
        let Some(found) = self.ask(&session, self.patience).await else {
            return Outcome::Gone;
        };
        if found == expected {
            return Outcome::Agreed;
        }
        if session.bytes.len() > FIRST_READ_BYTES {
            if session.has_inner_cr {
                return Outcome::Explained("a CR inside a line that is read in several pieces");
            }
            if found.told_once() == expected.told_once() {
                return Outcome::Explained(
                    "a refusal that is repeated for each read of the message",
                );
            }
        }
        for _ in 0..REPEATS {
            match self.ask(&session, self.patience).await {
                None => return Outcome::Gone,
                Some(again) if again == expected => {
                    return Outcome::Explained("one of several answers that the server gives");
                }
                Some(_) => {}
            }
        }
        Outcome::Differs
    }

    /// Whether it is still the server that it was.
    async fn greets(&self) -> Option<TcpStream> {
        let connecting = timeout(self.patience, TcpStream::connect(self.address));
        let mut stream = connecting.await.ok()?.ok()?;
        stream.set_nodelay(true).ok()?;
        let info = read_info(&mut stream, self.patience).await?;
        // A supervisor may have started another.
        (info.server_id == self.info.server_id).then_some(stream)
    }

    /// What the embedded server says.
    async fn expected(&self, session: &Ended) -> Answer {
        let options = BrokerOptions {
            limits: self.limits,
            version: self.version,
            ..BrokerOptions::default()
        };
        let broker = Broker::in_process(options);
        let mut stream = broker.connect();
        // It is in this process: it does not fail to come.
        let _ = read_info(&mut stream, self.patience).await;
        converse(stream, session, self.patience).await
    }

    /// What the server under test says; `None` when it does not greet.
    async fn ask(&self, session: &Ended, patience: Duration) -> Option<Answer> {
        let stream = self.greets().await?;
        Some(converse(stream, session, patience).await)
    }

    /// Makes the finding small, writes its file and prints it.
    async fn tell(
        &self,
        args: &FuzzArgs,
        mut case: Case,
        out: &mut impl Write,
    ) -> std::io::Result<()> {
        let patience = self.patience.min(MINIMISE_PATIENCE_MAX);
        let is_finding = async |pieces: &[Vec<u8>]| {
            let session = Ended::new(&pieces.concat(), self.limits);
            let expected = self.expected(&session).await;
            let found = self.ask(&session, patience).await;
            found.is_some_and(|found| found != expected)
        };
        case.pieces = minimise(case.pieces, is_finding).await;
        let session = Ended::new(&case.bytes(), self.limits);
        let expected = self.expected(&session).await;
        let found = self.ask(&session, self.patience).await;
        let is_hang = found.as_ref().is_some_and(|found| found.end == End::Silent);
        let file = write_file(args, &case)?;
        let finding = Finding {
            kind: if is_hang { "hang" } else { "disagreement" },
            seed: case.seed,
            mutations: &case.mutations,
            input: session.bytes.escape_ascii().to_string(),
            expected: verdict(Some(&expected)),
            found: verdict(found.as_ref()),
            file: Some(&file),
        };
        print(out, &Record::Finding(finding), args.json)
    }

    /// The server went away behind this session.
    fn tell_gone(
        &self,
        args: &FuzzArgs,
        case: &Case,
        out: &mut impl Write,
    ) -> Result<(), Box<dyn Error>> {
        let file = write_file(args, case)?;
        let session = Ended::new(&case.bytes(), self.limits);
        let finding = Finding {
            kind: "gone",
            seed: case.seed,
            mutations: &case.mutations,
            input: session.bytes.escape_ascii().to_string(),
            expected: Verdict {
                output: "INFO of the same server".to_owned(),
                end: End::Open.name(),
            },
            found: verdict(None),
            file: Some(&file),
        };
        Ok(print(out, &Record::Finding(finding), args.json)?)
    }
}

fn write_file(args: &FuzzArgs, case: &Case) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(&args.findings)?;
    let file = args.findings.join(format!("client-{}.json", case.seed));
    case.write(&file)?;
    Ok(file)
}

fn verdict(answer: Option<&Answer>) -> Verdict {
    answer.map_or_else(
        || Verdict {
            output: String::new(),
            end: "no INFO",
        },
        |answer| Verdict {
            output: answer.bytes().escape_ascii().to_string(),
            end: answer.end.name(),
        },
    )
}
