//! Opens one connection: INFO, TLS where it is due, CONNECT, PONG, all within a deadline.
//!
//! ```text
//!   Dialing -> [StartingTls] -> AwaitingInfo -> [StartingTls] -> [AwaitingCredentials] -> AwaitingPong
//! ```
//!
//! Nothing but the introduction is ever sent, and no credential before TLS when TLS was asked for.

use std::time::Duration;

use crate::secret::SecretBytes;
use crate::wire::encode;
use crate::wire::handshake::{Connect, ServerInfo};
use crate::wire::{ServerError, ServerOp};

use super::action::Action;
use super::auth::{Credentials, greeting};
use super::event::LinkError;
use super::options::SessionOptions;
use super::refusal::told;
use super::server_addr::ServerAddr;

/// PINGs answered within one handshake. Servers send none before their first PONG.
const EARLY_PONGS_MAX: u32 = 16;

/// What `proto` in INFO is at least where servers can leave out the echo.
const PROTO_WITHOUT_ECHO: i64 = 1;

#[derive(Debug)]
pub(crate) struct Handshake {
    link: u64,
    server: ServerAddr,
    stage: Stage,
    deadline: Duration,
    info: Option<ServerInfo>,
    is_encrypted: bool,
    early_pongs: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Dialing,
    AwaitingInfo,
    StartingTls,
    AwaitingCredentials,
    AwaitingPong,
}

/// What follows from an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Nothing,
    Do(Action),
    /// The server complained and goes on.
    Told(String),
    /// The server has taken us.
    Accepted,
}

impl Handshake {
    /// Begins with a dial that the owner carries out.
    pub(crate) const fn new(link: u64, server: ServerAddr, deadline: Duration) -> Self {
        Self {
            link,
            server,
            stage: Stage::Dialing,
            deadline,
            info: None,
            is_encrypted: false,
            early_pongs: 0,
        }
    }

    /// The socket is open.
    pub(crate) fn handle_connected(&mut self, options: &SessionOptions) -> Result<Step, LinkError> {
        if self.stage != Stage::Dialing {
            return Ok(Step::Nothing);
        }
        self.stage = Stage::AwaitingInfo;
        // With wss TLS comes before WebSocket, both with the dial.
        self.is_encrypted = self.server.is_websocket() && self.server.is_tls();
        if options.is_tls_first && !self.server.is_websocket() {
            return self.start_tls();
        }
        Ok(Step::Nothing)
    }

    /// TLS is up on the socket.
    pub(crate) fn handle_tls_started(
        &mut self,
        options: &SessionOptions,
    ) -> Result<Step, LinkError> {
        if self.stage != Stage::StartingTls {
            return Ok(Step::Nothing);
        }
        self.is_encrypted = true;
        if self.info.is_none() {
            self.stage = Stage::AwaitingInfo;
            return Ok(Step::Nothing);
        }
        self.identify(options)
    }

    /// The owner has found out how to identify ourselves.
    pub(crate) fn handle_credentials(
        &mut self,
        options: &SessionOptions,
        credentials: &Credentials,
    ) -> Result<Step, LinkError> {
        if self.stage != Stage::AwaitingCredentials {
            return Ok(Step::Nothing);
        }
        self.introduce(options, credentials)
    }

    pub(crate) fn handle_op(
        &mut self,
        options: &SessionOptions,
        op: &ServerOp<'_>,
    ) -> Result<Step, LinkError> {
        match self.stage {
            Stage::AwaitingInfo => self.handle_first_op(options, op),
            Stage::AwaitingPong => self.handle_greeting_op(op),
            Stage::Dialing | Stage::StartingTls | Stage::AwaitingCredentials => Ok(Step::Nothing),
        }
    }

    pub(crate) const fn link(&self) -> u64 {
        self.link
    }

    pub(crate) const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// What was learnt: the server, and what it said about itself last.
    pub(crate) fn finish(self) -> (u64, ServerAddr, ServerInfo) {
        (self.link, self.server, self.info.unwrap_or_default())
    }

    fn handle_first_op(
        &mut self,
        options: &SessionOptions,
        op: &ServerOp<'_>,
    ) -> Result<Step, LinkError> {
        match op {
            ServerOp::Info { json } => {
                let info = ServerInfo::parse(json).map_err(|error| {
                    LinkError::InfoMalformed(told(error.to_string().as_bytes()))
                })?;
                self.info = Some(info);
                self.choose_tls(options)
            }
            ServerOp::Err { text } => Err(LinkError::Server(told(text))),
            ServerOp::Msg(_) | ServerOp::Ping | ServerOp::Pong | ServerOp::Ok => {
                Err(LinkError::InfoMissing)
            }
        }
    }

    /// A server that withholds TLS when it was asked for gets no credentials.
    fn choose_tls(&mut self, options: &SessionOptions) -> Result<Step, LinkError> {
        let Some(info) = &self.info else {
            return Ok(Step::Nothing);
        };
        let is_wanted = options.is_tls_required || options.is_tls_first || self.server.is_tls();
        let is_offered = info.tls_required || info.tls_available;
        if self.is_encrypted || (!is_wanted && (!info.tls_required || self.server.is_websocket())) {
            return self.identify(options);
        }
        if is_wanted && (!is_offered || self.server.is_websocket()) {
            return Err(LinkError::TlsNotOffered);
        }
        self.start_tls()
    }

    fn start_tls(&mut self) -> Result<Step, LinkError> {
        if !cfg!(feature = "tls") {
            return Err(LinkError::TlsNotBuilt);
        }
        self.stage = Stage::StartingTls;
        Ok(Step::Do(Action::StartTls {
            link: self.link,
            server: self.server.clone(),
        }))
    }

    /// Chooses the credentials; those in the URL go first.
    fn identify(&mut self, options: &SessionOptions) -> Result<Step, LinkError> {
        let Some(credentials) = options.auth.for_server(self.server.credentials()) else {
            self.stage = Stage::AwaitingCredentials;
            let nonce = self.info.as_ref().map(|info| info.nonce.clone());
            let nonce = nonce.filter(|nonce| !nonce.is_empty());
            return Ok(Step::Do(Action::Authenticate {
                link: self.link,
                server: self.server.clone(),
                nonce,
            }));
        };
        self.introduce(options, &credentials)
    }

    /// Sends CONNECT and PING; the PONG says that the server took them.
    fn introduce(
        &mut self,
        options: &SessionOptions,
        credentials: &Credentials,
    ) -> Result<Step, LinkError> {
        let info = self.info.clone().unwrap_or_default();
        if !options.echo && info.proto < PROTO_WITHOUT_ECHO {
            return Err(LinkError::NoEchoNotOffered);
        }
        let mut connect = Connect::new();
        connect.name = options.name.clone();
        connect.echo = options.echo;
        connect.verbose = options.verbose;
        connect.pedantic = options.pedantic;
        connect.tls_required = self.is_encrypted;
        connect.headers = info.headers;
        connect.no_responders = info.headers && options.no_responders;
        let introduced = credentials.introduce(&mut connect, &info);
        introduced.map_err(LinkError::Credentials)?;
        let max = options.line_bytes_max;
        let bytes =
            greeting(connect, max).map_err(|found| LinkError::ConnectTooLong { found, max })?;
        self.stage = Stage::AwaitingPong;
        Ok(self.send(bytes))
    }

    fn handle_greeting_op(&mut self, op: &ServerOp<'_>) -> Result<Step, LinkError> {
        match op {
            ServerOp::Pong => return Ok(Step::Accepted),
            ServerOp::Err { text } => {
                let text = told(text);
                if ServerError::new(text.as_bytes()).closes() {
                    return Err(LinkError::Server(text));
                }
                return Ok(Step::Told(text));
            }
            // One that cannot be read changes nothing.
            ServerOp::Info { json } => {
                if let Ok(info) = ServerInfo::parse(json) {
                    self.info = Some(info);
                }
            }
            ServerOp::Ping => {
                if self.early_pongs < EARLY_PONGS_MAX {
                    self.early_pongs = self.early_pongs.saturating_add(1);
                    let mut bytes = Vec::new();
                    encode::pong(&mut bytes);
                    return Ok(self.send(bytes));
                }
            }
            ServerOp::Ok | ServerOp::Msg(_) => {}
        }
        Ok(Step::Nothing)
    }

    fn send(&self, bytes: impl Into<SecretBytes>) -> Step {
        Step::Do(Action::Send {
            link: self.link,
            bytes: bytes.into(),
        })
    }
}
