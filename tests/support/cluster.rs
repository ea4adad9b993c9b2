//! Several real nats-servers that know each other, on loopback.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::time::Duration;

use super::{RealServer, ServerBinary, free_port, wait_until};

/// A full mesh of servers of one version.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<RealServer>,
}

impl Cluster {
    /// Starts `size` nodes with `config` added to each, and returns once each has told of all.
    ///
    /// A node in lame duck mode begins to close connections after one second.
    pub(crate) fn start(binary: &ServerBinary, size: usize, config: &str) -> Self {
        let ports: Vec<u16> = (0..size).map(|_| free_port()).collect();
        let routes: Vec<String> = ports
            .iter()
            .map(|port| format!("\"nats-route://127.0.0.1:{port}\""))
            .collect();
        let routes = routes.join(", ");
        let nodes = ports
            .iter()
            .map(|port| {
                let config = format!(
                    "cluster {{ name: \"c\", listen: \"127.0.0.1:{port}\", routes: [{routes}] }}\n\
                     lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"1s\"\n{config}"
                );
                RealServer::start(binary, &config)
            })
            .collect();
        let cluster = Self { nodes };
        cluster.await_mesh();
        cluster
    }

    /// The URLs of all nodes, divided by commas.
    pub(crate) fn urls(&self) -> String {
        let urls: Vec<String> = self.nodes.iter().map(RealServer::url).collect();
        urls.join(",")
    }

    /// The index of the node at this port.
    pub(crate) fn index_of(&self, port: u16) -> usize {
        let is_meant = |node: &RealServer| node.address().port() == port;
        self.nodes.iter().position(is_meant).unwrap()
    }

    /// Waits until each node names all nodes to its clients.
    pub(crate) fn await_mesh(&self) {
        wait_until("a full mesh", || {
            self.nodes.iter().all(|node| {
                let info = info_of(node);
                self.nodes
                    .iter()
                    .all(|other| info.contains(&format!("\"{}\"", other.address())))
            })
        });
    }
}

fn info_of(node: &RealServer) -> String {
    let mut line = String::new();
    if let Ok(stream) = TcpStream::connect(node.address()) {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
        let _ = BufReader::new(stream).read_line(&mut line);
    }
    line
}
