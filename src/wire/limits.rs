//! How much a peer may make us hold for one frame.

/// Bounds of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a control line's arguments: without the operation's name, the blanks after it and
    /// the line end. Servers count it so. From a server it also bounds what may follow PING, PONG
    /// and +OK, where servers send nothing.
    pub line_bytes_max: usize,
    /// Bytes of headers and payload together. From a client it also bounds what may follow PING,
    /// PONG and +OK up to their line end, which servers ignore without a limit.
    pub payload_bytes_max: usize,
    /// Whether HPUB and HMSG are allowed. A server refuses them, by closing without a word, from a
    /// client whose CONNECT did not ask for headers.
    pub allows_headers: bool,
}

impl Limits {
    /// For what servers say: 64 KiB lines, because INFO lists every server of a cluster; 64 MiB
    /// payloads, the most that a server can be configured to hold for a client by default.
    pub const SERVER_OPS: Self = Self {
        line_bytes_max: 65_536,
        payload_bytes_max: 64 << 20,
        allows_headers: true,
    };

    /// For what clients say: 4,096 bytes and 1 MiB, a server's defaults.
    pub const CLIENT_OPS: Self = Self {
        line_bytes_max: 4_096,
        payload_bytes_max: 1 << 20,
        allows_headers: true,
    };

    /// Replaces the bound on control lines.
    #[must_use]
    pub const fn with_line_bytes_max(mut self, bytes: usize) -> Self {
        self.line_bytes_max = bytes;
        self
    }

    /// Replaces the bound on headers and payload.
    #[must_use]
    pub const fn with_payload_bytes_max(mut self, bytes: usize) -> Self {
        self.payload_bytes_max = bytes;
        self
    }

    /// Says whether HPUB and HMSG are allowed.
    #[must_use]
    pub const fn with_headers(mut self, allows_headers: bool) -> Self {
        self.allows_headers = allows_headers;
        self
    }
}
