//! The scripted server, and the client that is held against it.

use std::time::Duration;

use natseq::client::{Client, ConnectOptions, Event, Events, Subscription};
use natseq::session::{LinkError, RedialOptions};
use natseq::wire::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Everything here takes less, also on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What an honest server says first.
pub(crate) const INFO: &[u8] =
    b"INFO {\"server_id\":\"S\",\"version\":\"2.15.1\",\"headers\":true,\"max_payload\":1048576,\"proto\":1} \r\n";

/// A listening socket whose connections follow the test's script.
pub(crate) struct Server {
    listener: TcpListener,
}

impl Server {
    pub(crate) async fn listen() -> Self {
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        }
    }

    pub(crate) fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// Takes the next connection and says nothing.
    pub(crate) async fn accept(&self) -> Peer {
        let (stream, _) = timeout(PATIENCE, self.listener.accept())
            .await
            .expect("the client dials")
            .unwrap();
        stream.set_nodelay(true).unwrap();
        Peer {
            stream,
            heard: Vec::new(),
        }
    }

    /// Takes the next connection as an honest server does.
    pub(crate) async fn accept_honestly(&self) -> Peer {
        let mut peer = self.accept().await;
        peer.say(INFO).await;
        peer.hear_introduction().await;
        peer.say(b"PONG\r\n").await;
        peer
    }
}

/// The server's end of one connection.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    heard: Vec<u8>,
}

impl Peer {
    /// Says `bytes`. A client that has hung up does not hear the rest.
    pub(crate) async fn say(&mut self, bytes: &[u8]) {
        let _ = timeout(PATIENCE, self.stream.write_all(bytes))
            .await
            .expect("the client reads");
    }

    /// Says `bytes` one at a time, each in a segment of its own.
    pub(crate) async fn say_bytewise(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.say(&[*byte]).await;
            tokio::task::yield_now().await;
        }
    }

    /// The next line, with its end.
    pub(crate) async fn hear_line(&mut self) -> Vec<u8> {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                return self.heard.drain(..=end).collect();
            }
            let count = timeout(PATIENCE, self.stream.read_buf(&mut self.heard))
                .await
                .expect("the client speaks")
                .unwrap();
            assert_ne!(count, 0, "the client hung up");
        }
    }

    /// Waits for CONNECT and PING.
    pub(crate) async fn hear_introduction(&mut self) {
        let connect = self.hear_line().await;
        assert!(
            connect.starts_with(b"CONNECT {"),
            "{}",
            connect.escape_ascii()
        );
        assert_eq!(self.hear_line().await, b"PING\r\n");
    }

    /// The next line that is no PONG, and how many PONGs came before it.
    pub(crate) async fn hear_past_pongs(&mut self) -> (Vec<u8>, usize) {
        let mut pongs = 0;
        loop {
            let line = self.hear_line().await;
            if line != b"PONG\r\n" {
                return (line, pongs);
            }
            pongs += 1;
        }
    }

    /// Waits until the client hangs up.
    pub(crate) async fn hear_close(&mut self) {
        // A reset is a close too: it comes when the client leaves bytes unread.
        while timeout(PATIENCE, self.stream.read_buf(&mut self.heard))
            .await
            .expect("the client hangs up")
            .is_ok_and(|count| count > 0)
        {
            self.heard.clear();
        }
    }

    /// Everything until the client hangs up.
    pub(crate) async fn hear_rest(&mut self) -> Vec<u8> {
        while timeout(PATIENCE, self.stream.read_buf(&mut self.heard))
            .await
            .expect("the client hangs up")
            .is_ok_and(|count| count > 0)
        {}
        std::mem::take(&mut self.heard)
    }

    /// The next `len` bytes, each read by itself.
    pub(crate) async fn hear_bytewise(&mut self, len: usize) -> Vec<u8> {
        let mut heard = std::mem::take(&mut self.heard);
        while heard.len() < len {
            let byte = timeout(PATIENCE, self.stream.read_u8())
                .await
                .expect("the client speaks");
            heard.push(byte.unwrap());
        }
        heard
    }

    /// Ends the connection behind everything that was said.
    pub(crate) async fn close(mut self) {
        let _ = self.stream.shutdown().await;
        self.hear_close().await;
    }
}

/// A client that subscribes to `a` with sid 1, and the server it talks to.
pub(crate) struct Rig {
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) events: Events,
    pub(crate) subscription: Subscription,
    pub(crate) peer: Peer,
    rounds: usize,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with(ConnectOptions::new()).await
    }

    pub(crate) async fn with(options: ConnectOptions) -> Self {
        let server = Server::listen().await;
        let address = server.address();
        // Every connection ends soon here, which makes the pauses between them grow.
        let redial = RedialOptions {
            pause_min: Duration::ZERO,
            pause_max: Duration::from_millis(1),
            ..RedialOptions::default()
        };
        // No PING of the client's own among what the script expects.
        let options = options.ping_interval(PATIENCE * 2).redial(redial);
        let (client, mut peer) = tokio::join!(options.connect(&address), server.accept_honestly());
        let client = client.unwrap();
        let events = client.events();
        let subscription = client.subscribe("a").unwrap();
        assert_eq!(peer.hear_line().await, b"SUB a 1\r\n");
        Self {
            server,
            client,
            events,
            subscription,
            peer,
            rounds: 0,
        }
    }

    /// Proves that publishing and subscribing work, and that nothing else was delivered before.
    /// Returns how many PONGs came before.
    pub(crate) async fn works(&mut self, context: &str) -> usize {
        self.rounds += 1;
        let word = format!("round {}", self.rounds);
        self.client.publish("up", word.as_str()).await.unwrap();
        let (line, pongs) = self.peer.hear_past_pongs().await;
        let expected = format!("PUB up {}\r\n", word.len());
        assert_eq!(
            line.escape_ascii().to_string(),
            expected.as_bytes().escape_ascii().to_string(),
            "{context}"
        );
        assert_eq!(
            self.peer.hear_line().await,
            format!("{word}\r\n").as_bytes(),
            "{context}"
        );
        let message = format!("MSG a 1 {}\r\n{word}\r\n", word.len());
        self.peer.say(message.as_bytes()).await;
        let message = self.message(context).await;
        assert_eq!(
            message.payload().escape_ascii().to_string(),
            word,
            "{context}"
        );
        pongs
    }

    /// The server says `bytes`; the client goes on. Returns how many PONGs it answered with.
    pub(crate) async fn survives(&mut self, bytes: &[u8]) -> usize {
        let context = shown(bytes);
        self.peer.say(bytes).await;
        // The first round's message comes behind `bytes`, so the second's is published behind every answer to them.
        let pongs = self.works(&context).await + self.works(&context).await;
        self.no_event(&context).await;
        pongs
    }

    /// The server says `bytes`; the client hangs up for `reason`, delivers nothing of it and comes back.
    pub(crate) async fn breaks(&mut self, bytes: &[u8], reason: &LinkError) {
        let context = shown(bytes);
        self.peer.say(bytes).await;
        self.disconnected(reason, &context).await;
        self.peer.hear_close().await;
        self.comes_back(&context).await;
    }

    /// The server says `bytes` and closes; the client delivers nothing of it and comes back.
    pub(crate) async fn breaks_off(&mut self, bytes: &[u8]) {
        let context = shown(bytes);
        self.peer.say(bytes).await;
        self.closes(&LinkError::Closed, &context).await;
        self.comes_back(&context).await;
    }

    /// The connection ends, and the next server's `greeting` is refused; the one after it works. Returns why.
    pub(crate) async fn refuses(&mut self, greeting: &[u8]) -> LinkError {
        let context = shown(greeting);
        self.closes(&LinkError::Closed, &context).await;
        let mut peer = self.server.accept().await;
        peer.say(greeting).await;
        let reason = self.dial_failed(&context).await;
        peer.hear_close().await;
        self.comes_back(&context).await;
        reason
    }

    /// The connection ends, and the next server's `greeting` is taken for an INFO.
    pub(crate) async fn accepts(&mut self, greeting: &[u8]) {
        let context = shown(greeting);
        self.closes(&LinkError::Closed, &context).await;
        self.peer = self.server.accept().await;
        self.peer.say(greeting).await;
        self.peer.hear_introduction().await;
        self.peer.say(b"PONG\r\n").await;
        self.is_back(&context).await;
    }

    /// The server closes; the client tells `reason`.
    pub(crate) async fn closes(&mut self, reason: &LinkError, context: &str) {
        let _ = self.peer.stream.shutdown().await;
        self.peer.hear_close().await;
        self.disconnected(reason, context).await;
    }

    /// The next dial succeeds, the subscription is there again, and all works.
    pub(crate) async fn comes_back(&mut self, context: &str) {
        self.peer = self.server.accept_honestly().await;
        self.is_back(context).await;
    }

    async fn is_back(&mut self, context: &str) {
        assert_eq!(self.peer.hear_line().await, b"SUB a 1\r\n", "{context}");
        assert_eq!(self.peer.hear_line().await, b"PING\r\n", "{context}");
        self.peer.say(b"PONG\r\n").await;
        let event = self.event(context).await;
        assert!(
            matches!(event, Event::Connected { .. }),
            "{event:?}, {context}"
        );
        self.works(context).await;
    }

    pub(crate) async fn disconnected(&mut self, reason: &LinkError, context: &str) {
        let event = self.event(context).await;
        let Event::Disconnected { reason: found, .. } = event else {
            panic!("{event:?}, {context}");
        };
        assert_eq!(found, *reason, "{context}");
    }

    /// Why the client could not connect.
    pub(crate) async fn dial_failed(&mut self, context: &str) -> LinkError {
        let event = self.event(context).await;
        let Event::DialFailed { reason, .. } = event else {
            panic!("{event:?}, {context}");
        };
        reason
    }

    /// The next thing that the client tells.
    pub(crate) async fn event(&mut self, context: &str) -> Event {
        timeout(PATIENCE, self.events.next())
            .await
            .unwrap_or_else(|_| panic!("no event: {context}"))
            .unwrap_or_else(|| panic!("no client: {context}"))
    }

    pub(crate) async fn no_event(&mut self, context: &str) {
        let event = timeout(Duration::ZERO, self.events.next()).await;
        assert!(event.is_err(), "{event:?}, {context}");
    }

    /// The next message for `a`.
    pub(crate) async fn message(&mut self, context: &str) -> Message {
        timeout(PATIENCE, self.subscription.next())
            .await
            .unwrap_or_else(|_| panic!("no message: {context}"))
            .unwrap_or_else(|| panic!("no subscription: {context}"))
    }
}

/// What was said, for a failing test's message.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(200)];
    format!("{} bytes: {}", bytes.len(), start.escape_ascii())
}
