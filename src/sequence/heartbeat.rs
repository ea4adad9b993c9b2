//! What a source says about itself between messages.
//!
//! The header `Seq: source.epoch.lead` names the last number that was written before it; the body
//! is JSON.

use core::time::Duration;

use crate::subject::Filter;

/// What a heartbeat announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HeartbeatKind {
    /// The source begins, or is back on a new connection.
    Hello,
    /// The source lives.
    Beat,
    /// The source has ended: no number follows.
    End,
    /// The source has given its name up to another run: no number of its own follows.
    Fenced {
        /// The epoch of the other run.
        by: u64,
    },
}

impl HeartbeatKind {
    /// Returns true when no number follows.
    #[must_use]
    pub const fn is_end(self) -> bool {
        matches!(self, Self::End | Self::Fenced { .. })
    }
}

/// The run before this one, when it ended cleanly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "two numbers say it all")]
pub struct Prior {
    /// The epoch.
    pub epoch: u64,
    /// Its last number.
    pub lead: u64,
}

/// A heartbeat's body. Its numbers come in the header.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Heartbeat {
    /// What it announces.
    pub kind: HeartbeatKind,
    /// The subjects to which all messages of the source go.
    pub scope: Filter,
    /// The last number written before it; 0 for none. Travels in the header.
    pub lead: u64,
    /// The oldest number that can still be repaired; lead + 1 for none.
    pub trail: u64,
    /// Within this time another message or heartbeat follows.
    pub next: Duration,
    /// Connections of the sender so far.
    pub generation: u64,
    /// The run before this one. In every heartbeat, so that a lost hello does not hide it.
    pub prior: Option<Prior>,
    /// Time since the run began, by the source's own steady clock: whoever asks learns whether the
    /// run is younger than its subscription. `None` when the source does not say.
    pub age: Option<Duration>,
}

#[cfg(feature = "json")]
pub use json::HeartbeatError;

#[cfg(feature = "json")]
mod json {
    //! The JSON body:
    //! `{"v":1,"k":"hb","scope":"orders.>","trail":912,"next":2000,"cg":3,"age":61234}`.

    use core::fmt;
    use core::time::Duration;

    use serde::{Deserialize, Serialize};

    use super::{Heartbeat, HeartbeatKind, Prior};
    use crate::sequence::NUMBER_MAX;
    use crate::subject::Filter;

    /// A longer body is refused before it is looked at.
    const BODY_BYTES_MAX: usize = 4_096;

    /// The version of the body that is written and read.
    const VERSION: u64 = 1;

    /// A promise is at most a day.
    const NEXT_MILLIS_MAX: u64 = 86_400_000;

    #[derive(Serialize, Deserialize)]
    struct Body {
        v: u64,
        k: Kind,
        scope: String,
        trail: u64,
        next: u64,
        cg: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prior: Option<BodyPrior>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        age: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<u64>,
    }

    #[derive(Serialize, Deserialize)]
    struct BodyPrior {
        epoch: u64,
        lead: u64,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Hello,
        Hb,
        Eos,
        Fenced,
    }

    impl Heartbeat {
        /// Reads a body; `lead` is the number in the header.
        ///
        /// # Errors
        ///
        /// [`HeartbeatError`] for anything that a source does not send. Unknown fields are ignored.
        pub fn parse(lead: u64, body: &[u8]) -> Result<Self, HeartbeatError> {
            if body.len() > BODY_BYTES_MAX {
                return Err(HeartbeatError::TooLong {
                    found: body.len(),
                    max: BODY_BYTES_MAX,
                });
            }
            let body: Body = serde_json::from_slice(body).map_err(|_| HeartbeatError::Json)?;
            let prior = body.prior.map(|prior| Prior {
                epoch: prior.epoch,
                lead: prior.lead,
            });
            let numbers = [body.trail, body.cg]
                .into_iter()
                .chain(body.age)
                .chain(body.by)
                .chain(
                    prior
                        .into_iter()
                        .flat_map(|prior| [prior.epoch, prior.lead]),
                );
            // One past the last number is what a source with nothing retained says.
            if body.v != VERSION || numbers.into_iter().any(|number| number > NUMBER_MAX + 1) {
                return Err(HeartbeatError::Number);
            }
            Ok(Self {
                kind: match body.k {
                    Kind::Hello => HeartbeatKind::Hello,
                    Kind::Hb => HeartbeatKind::Beat,
                    Kind::Eos => HeartbeatKind::End,
                    Kind::Fenced => HeartbeatKind::Fenced {
                        by: body.by.ok_or(HeartbeatError::Json)?,
                    },
                },
                scope: Filter::new(&body.scope).map_err(|_| HeartbeatError::Scope)?,
                lead,
                trail: body.trail,
                next: Duration::from_millis(body.next.min(NEXT_MILLIS_MAX)),
                generation: body.cg,
                prior,
                age: body.age.map(Duration::from_millis),
            })
        }

        /// The JSON body.
        #[must_use]
        pub fn to_json(&self) -> Vec<u8> {
            let body = Body {
                v: VERSION,
                k: match self.kind {
                    HeartbeatKind::Hello => Kind::Hello,
                    HeartbeatKind::Beat => Kind::Hb,
                    HeartbeatKind::End => Kind::Eos,
                    HeartbeatKind::Fenced { .. } => Kind::Fenced,
                },
                scope: self.scope.as_str().to_owned(),
                trail: self.trail,
                next: u64::try_from(self.next.as_millis()).unwrap_or(NEXT_MILLIS_MAX),
                cg: self.generation,
                prior: self.prior.map(|prior| BodyPrior {
                    epoch: prior.epoch,
                    lead: prior.lead,
                }),
                age: self.age.map(millis_up),
                by: match self.kind {
                    HeartbeatKind::Fenced { by } => Some(by),
                    HeartbeatKind::Hello | HeartbeatKind::Beat | HeartbeatKind::End => None,
                },
            };
            // Plain data always has a JSON form.
            serde_json::to_vec(&body).unwrap_or_default()
        }
    }

    /// Whole milliseconds, rounded up: a run may look older than it is and never younger.
    fn millis_up(time: Duration) -> u64 {
        u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(NUMBER_MAX)
    }

    /// Why bytes are no heartbeat body.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum HeartbeatError {
        /// It is too long.
        TooLong {
            /// Bytes.
            found: usize,
            /// The bound in bytes.
            max: usize,
        },
        /// It is no JSON object with the fields of a heartbeat.
        Json,
        /// The scope is no subject or pattern.
        Scope,
        /// The version is unknown or a number is too large.
        Number,
    }

    impl fmt::Display for HeartbeatError {
        fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::TooLong { found, max } => {
                    write!(out, "heartbeat of {found} bytes exceeds {max} bytes")
                }
                Self::Json => out.write_str("heartbeat is not the JSON object it should be"),
                Self::Scope => out.write_str("heartbeat's scope is no subject"),
                Self::Number => {
                    out.write_str("heartbeat has an unknown version or a number too large")
                }
            }
        }
    }

    impl core::error::Error for HeartbeatError {}

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_heartbeat_is_read_back() {
            let heartbeat = Heartbeat {
                kind: HeartbeatKind::Hello,
                scope: Filter::new("orders.>").unwrap(),
                lead: 7,
                trail: 3,
                next: Duration::from_millis(2_000),
                generation: 2,
                prior: Some(Prior { epoch: 5, lead: 9 }),
                age: Some(Duration::from_secs(61)),
            };
            let fenced = Heartbeat {
                kind: HeartbeatKind::Fenced { by: 12 },
                ..heartbeat.clone()
            };
            for heartbeat in [heartbeat, fenced] {
                assert_eq!(Heartbeat::parse(7, &heartbeat.to_json()), Ok(heartbeat));
            }
            let body = br#"{"v":1,"k":"hb","scope":"a","trail":1,"next":20,"cg":1,"new":[]}"#;
            assert_eq!(
                Heartbeat::parse(0, body).map(|read| (read.kind, read.age)),
                Ok((HeartbeatKind::Beat, None))
            );
        }

        #[test]
        fn what_no_source_sends_is_refused() {
            let cases: [(&[u8], HeartbeatError); 5] = [
                (
                    br#"{"v":1,"k":"fenced","scope":"a","trail":1,"next":1,"cg":1}"#,
                    HeartbeatError::Json,
                ),
                (b"?", HeartbeatError::Json),
                (
                    br#"{"v":1,"k":"hb","scope":"a..b","trail":1,"next":1,"cg":1}"#,
                    HeartbeatError::Scope,
                ),
                (
                    br#"{"v":2,"k":"hb","scope":"a","trail":1,"next":1,"cg":1}"#,
                    HeartbeatError::Number,
                ),
                (
                    br#"{"v":1,"k":"hb","scope":"a","trail":99007199254740991,"next":1,"cg":1}"#,
                    HeartbeatError::Number,
                ),
            ];
            for (body, error) in cases {
                assert_eq!(
                    Heartbeat::parse(0, body),
                    Err(error),
                    "{}",
                    body.escape_ascii()
                );
            }
        }
    }
}
