//! One side of a whole conversation, in an order that makes sense.

use arbitrary::{Arbitrary, Result, Unstructured};

use super::operation::{ClientOperation, ServerOperation, connect_json, info_json, max};
use super::words;

/// Operations of a session at most, the first one not counted.
const OPERATIONS_MAX: u8 = 12;

/// Something that consists of operations.
pub trait Frames {
    /// The bytes of each operation.
    fn frames(&self) -> Vec<Vec<u8>>;

    /// All bytes.
    fn to_bytes(&self) -> Vec<u8> {
        self.frames().concat()
    }
}

/// What a client says: usually CONNECT, then subscriptions, messages that meet them, and the rest.
///
/// Every subscription has a queue group of its own, if it has one: which member gets a message is a
/// server's free choice.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientSession {
    /// The operations in their order.
    pub operations: Vec<ClientOperation>,
}

/// What a server says: INFO, an answer to the first PING, then messages and the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerSession {
    /// The operations in their order.
    pub operations: Vec<ServerOperation>,
}

impl<'a> Arbitrary<'a> for ClientSession {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let mut operations = Vec::new();
        if !u.ratio(1_u8, 10)? {
            operations.push(ClientOperation::Connect {
                json: connect_json(u)?,
            });
        }
        let mut sids = 0_u8;
        for _ in 0..u.int_in_range(1..=OPERATIONS_MAX)? {
            operations.push(match u.int_in_range(0..=15_u8)? {
                0..=4 => {
                    // Now and then the sid is taken already.
                    sids = sids.saturating_add(u8::from(!u.ratio(1_u8, 12)?));
                    ClientOperation::Subscribe {
                        filter: words::filter(u)?,
                        queue_group: u
                            .ratio(1_u8, 5)?
                            .then(|| format!("q{}", operations.len()).into_bytes()),
                        sid: sids.to_string().into_bytes(),
                    }
                }
                5..=11 => ClientOperation::Publish {
                    subject: words::subject(u)?,
                    parts: u.arbitrary()?,
                },
                12 | 13 => ClientOperation::Unsubscribe {
                    sid: u.int_in_range(0..=sids)?.to_string().into_bytes(),
                    max: max(u)?,
                },
                14 => ClientOperation::Ping,
                _ => u.arbitrary()?,
            });
        }
        Ok(Self { operations })
    }
}

impl<'a> Arbitrary<'a> for ServerSession {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let mut operations = vec![
            ServerOperation::Info {
                json: info_json(u)?,
            },
            ServerOperation::Pong,
        ];
        for _ in 0..u.int_in_range(1..=OPERATIONS_MAX)? {
            operations.push(u.arbitrary()?);
        }
        Ok(Self { operations })
    }
}

impl Frames for ClientSession {
    fn frames(&self) -> Vec<Vec<u8>> {
        self.operations
            .iter()
            .map(ClientOperation::to_bytes)
            .collect()
    }
}

impl Frames for ServerSession {
    fn frames(&self) -> Vec<Vec<u8>> {
        self.operations
            .iter()
            .map(ServerOperation::to_bytes)
            .collect()
    }
}

impl Frames for ClientOperation {
    fn frames(&self) -> Vec<Vec<u8>> {
        vec![Self::to_bytes(self)]
    }
}

impl Frames for ServerOperation {
    fn frames(&self) -> Vec<Vec<u8>> {
        vec![Self::to_bytes(self)]
    }
}
