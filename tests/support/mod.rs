//! What the integration tests share: real nats-servers, programs beside them, and waiting with a deadline.
//!
//! Servers come from `tests/run`, which fetches them. Without it a test that needs one says so on standard error and
//! does nothing; under `tests/run` a missing server is a failure.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    reason = "test helpers: they wait by a clock, and a failure here fails the test"
)]

pub(crate) mod certificates;
pub(crate) mod cluster;
pub(crate) mod program;
pub(crate) mod proxy;

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The versions that `tests/run` fetches, oldest first.
pub(crate) const VERSIONS: [&str; 4] = ["2.9.10", "2.10.26", "2.12.8", "2.15.1"];

/// How long a helper waits for a condition before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A nats-server program of one version.
#[derive(Debug, Clone)]
pub(crate) struct ServerBinary {
    /// For instance `2.10.26`.
    pub(crate) version: &'static str,
    path: PathBuf,
}

/// Every version there is; none, loudly, where `tests/run` has not fetched them.
pub(crate) fn servers(test: &str) -> Vec<ServerBinary> {
    VERSIONS
        .iter()
        .filter_map(|version| server(test, version))
        .collect()
}

/// One version, or `None`, loudly, where `tests/run` has not fetched it.
pub(crate) fn server(test: &str, version: &'static str) -> Option<ServerBinary> {
    let folder = env::var_os("NATSEQ_SERVERS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/nats-server"),
        PathBuf::from,
    );
    let path = folder.join(version).join("nats-server");
    if path.is_file() {
        return Some(ServerBinary { version, path });
    }
    left_out(
        test,
        &format!("nats-server {version} is not at {}", path.display()),
    );
    None
}

/// Says that `test` did not run and why; fails it under `tests/run`, which leaves nothing out.
pub(crate) fn left_out(test: &str, why: &str) {
    assert!(
        env::var_os("NATSEQ_REQUIRE_SERVERS").is_none(),
        "{test}: {why}"
    );
    // Written past the test harness, which would keep it to itself.
    let line = format!("\n*** LEFT TO tests/run: {test}: {why}\n");
    io::stderr().write_all(line.as_bytes()).unwrap();
}

/// A running nats-server on a loopback port of its own; ends, with its files, when dropped.
#[derive(Debug)]
pub(crate) struct RealServer {
    binary: ServerBinary,
    port: u16,
    name: String,
    folder: Folder,
    child: Option<Child>,
}

impl RealServer {
    /// Starts a server with `config` added to its own lines, and returns once it answers.
    pub(crate) fn start(binary: &ServerBinary, config: &str) -> Self {
        let mut why = String::new();
        for _ in 0..PORTS_TRIED {
            let folder = Folder::new();
            let port = free_port();
            let name = format!("natseq-{}-{port}", std::process::id());
            let mut server = Self {
                binary: binary.clone(),
                port,
                name,
                folder,
                child: None,
            };
            server.write_config(config);
            match server.try_run() {
                Ok(()) => return server,
                Err(said) => why = said,
            }
            // Another process may have taken the port between the look and the start.
            if !why.contains("address already in use") {
                break;
            }
        }
        panic!("{why}");
    }

    /// Starts two that are a cluster, and returns once each announces the other.
    pub(crate) fn pair(binary: &ServerBinary, config: &str) -> [Self; 2] {
        let routes = [free_port(), free_port()];
        let pair = [0, 1].map(|at: usize| {
            let (own, other) = (routes[at], routes[1 - at]);
            let cluster = format!(
                "cluster {{ name: \"pair\", listen: \"127.0.0.1:{own}\", routes: [\"nats://127.0.0.1:{other}\"] }}"
            );
            Self::start(binary, &format!("{config}\n{cluster}"))
        });
        let ports = pair.each_ref().map(|server| server.port.to_string());
        for server in &pair {
            wait_until("the servers of a pair to know each other", || {
                info_line(server.address())
                    .is_ok_and(|info| ports.iter().all(|port| info.contains(port.as_str())))
            });
        }
        pair
    }

    /// Kills the server at once (SIGKILL), as a crash would, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends it a signal, `TERM` or `USR2` for instance.
    pub(crate) fn signal(&self, name: &str) {
        let child = self.child.as_ref().unwrap();
        let id = child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status();
        assert!(status.unwrap().success(), "kill -s {name} {id}");
    }

    /// Starts it again after [`kill`](Self::kill), on the same port, and returns once it answers.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.try_run().unwrap_or_else(|why| panic!("{why}"));
    }

    /// Replaces what was added to its own lines, and has it read them again.
    pub(crate) fn reconfigure(&self, config: &str) {
        self.write_config(config);
        self.signal("HUP");
    }

    /// [`restart`](Self::restart) with another configuration.
    pub(crate) fn restart_with(&mut self, config: &str) {
        self.write_config(config);
        self.restart();
    }

    /// `nats://127.0.0.1:port`.
    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// The URL with `userinfo`, which is `user:password` or a token.
    pub(crate) fn url_as(&self, userinfo: &str) -> String {
        format!("nats://{userinfo}@{}", self.address())
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The version that runs.
    pub(crate) const fn version(&self) -> &'static str {
        self.binary.version
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path.join("server.log")).unwrap_or_default()
    }

    fn write_config(&self, config: &str) {
        let (port, name) = (self.port, &self.name);
        let text = format!("listen: \"127.0.0.1:{port}\"\nserver_name: \"{name}\"\n{config}\n");
        fs::write(self.folder.path.join("server.conf"), text).unwrap();
    }

    fn try_run(&mut self) -> Result<(), String> {
        let log = self.folder.path.join("server.log");
        let output = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let logged = self.log().len();
        // Such a server says nothing before TLS, but in its log.
        let config = fs::read_to_string(self.folder.path.join("server.conf")).unwrap();
        let is_silent = config.contains("handshake_first: true");
        let child = Command::new(&self.binary.path)
            .arg("--config")
            .arg(self.folder.path.join("server.conf"))
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + PATIENCE;
        loop {
            // The name proves that it is ours and not another test's server on a port just taken.
            let is_ready = if is_silent {
                self.log()
                    .get(logged..)
                    .is_some_and(|log| log.contains("Server is ready"))
            } else {
                info_line(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)))
                    .is_ok_and(|info| info.contains(&self.name))
            };
            if is_ready {
                return Ok(());
            }
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            if ended.is_some() || Instant::now() > deadline {
                let why = format!(
                    "nats-server {} on port {} ended: {ended:?}\n{}",
                    self.binary.version,
                    self.port,
                    self.log()
                );
                self.kill();
                return Err(why);
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let said = format!("\nnats-server {} said:\n{}\n", self.version(), self.log());
            let _ = io::stderr().write_all(said.as_bytes());
        }
    }
}

/// Waits until `condition` holds, asking again and again, and fails the test after [`PATIENCE`].
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        thread::sleep(POLL);
    }
}

/// A folder of this test's own, removed when dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    /// Where it is.
    pub(crate) path: PathBuf,
}

impl Folder {
    /// Makes an empty one.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("natseq-test-{}-{count}", std::process::id()));
        // Left by a process of the same id that was killed.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self { path }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A loopback port that nobody listens on.
///
/// Below the range from which systems take ports for outgoing connections: a client that dials a dead server's port
/// out of that range can be given the same port to dial from, and then it has connected to itself.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let offset = std::process::id().wrapping_mul(61).wrapping_add(step) % PORTS;
        let port = u16::try_from(PORT_FIRST + offset).unwrap();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

fn info_line(address: SocketAddr) -> io::Result<String> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line)
}

const PORT_FIRST: u32 = 16_384;
const PORTS: u32 = 12_288;
const PORTS_TRIED: usize = 20;
const POLL: Duration = Duration::from_millis(5);
