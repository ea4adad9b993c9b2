//! The server that the examples talk to: the one at `NATS_URL`, else an embedded one.
#![allow(dead_code, reason = "each example uses its own part")]

use std::error::Error;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use natseq::broker::{Broker, BrokerOptions};

/// What examples return: any error ends them.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// How long an example waits for something that must come.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Ports below those from which systems take one for outgoing connections: a client that dials a
/// dead server there cannot be given the same port, and reach itself.
const PORTS: RangeInclusive<u16> = 28_700..=29_900;

/// A server somewhere.
pub(crate) struct Server {
    url: String,
    /// Ends when this is dropped.
    _embedded: Option<Embedded>,
}

impl Server {
    pub(crate) async fn find() -> Outcome<Self> {
        if let Ok(url) = std::env::var("NATS_URL") {
            return Ok(Self {
                url,
                _embedded: None,
            });
        }
        let embedded = Embedded::start(BrokerOptions::default()).await?;
        Ok(Self {
            url: embedded.url(),
            _embedded: Some(embedded),
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

/// An embedded server that can be away for a while.
pub(crate) struct Embedded {
    address: SocketAddr,
    options: BrokerOptions,
    broker: Option<Broker>,
}

impl Embedded {
    /// Starts a server on a port that is free.
    pub(crate) async fn start(options: BrokerOptions) -> Outcome<Self> {
        for port in PORTS {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            if let Ok(broker) = Broker::listen(address, options.clone()).await {
                return Ok(Self {
                    address,
                    options,
                    broker: Some(broker),
                });
            }
        }
        Err("no port is free".into())
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// The server, unless it is away.
    pub(crate) const fn broker(&self) -> Option<&Broker> {
        self.broker.as_ref()
    }

    /// Ends the server as a crash would.
    pub(crate) fn stop(&mut self) {
        self.broker = None;
    }

    /// Starts it again where it was.
    pub(crate) async fn restart(&mut self) -> Outcome {
        self.stop();
        let starting = async {
            loop {
                // The port is in use for a moment after the end.
                match Broker::listen(self.address, self.options.clone()).await {
                    Ok(broker) => return broker,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        self.broker = Some(tokio::time::timeout(SOON, starting).await?);
        Ok(())
    }
}
