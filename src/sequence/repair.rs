//! How a reply to a repair request ends.

use core::fmt;
use core::time::Duration;

use super::ranges::Ranges;
use super::stamp::number;

/// Header of a repair: the subject that the message was published to.
pub const SEQ_SUBJECT: &str = "Seq-Subject";
/// Header of a repair: the message's reply subject.
pub const REPLY_TO: &str = "Seq-Reply";
/// Header of an end: the oldest number that is retained.
pub const SEQ_TRAIL: &str = "Seq-Trail";
/// Header of an end: asked-for numbers that will never come.
pub const SEQ_GONE: &str = "Seq-Gone";
/// Header of an end: asked-for numbers were left out; ask again.
pub const SEQ_MORE: &str = "Seq-More";
/// Header of an end: milliseconds to wait before asking again.
pub const SEQ_RETRY: &str = "Seq-Retry";

/// The longest pause that a source can ask for.
const RETRY_MILLIS_MAX: u64 = 60_000;

/// The end of a reply: everything that the source sends for the request came before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RepairEnd {
    /// Asked-for numbers that will never come.
    pub gone: Ranges,
    /// Whether asked-for numbers were left out because the reply would have been too long.
    pub has_more: bool,
    /// How long to wait before asking again.
    pub retry: Duration,
}

impl RepairEnd {
    /// Reads the values of the headers [`SEQ_GONE`], [`SEQ_MORE`] and [`SEQ_RETRY`].
    ///
    /// # Errors
    ///
    /// [`RepairEndError`] when one is malformed.
    pub fn parse(
        gone: Option<&[u8]>,
        more: Option<&[u8]>,
        retry: Option<&[u8]>,
    ) -> Result<Self, RepairEndError> {
        let gone = gone
            .map_or(Ok(Ranges::new()), Ranges::parse)
            .map_err(|_| RepairEndError)?;
        let retry = retry.map_or(Some(0), number).ok_or(RepairEndError)?;
        Ok(Self {
            gone,
            has_more: more == Some(b"1"),
            retry: Duration::from_millis(retry.min(RETRY_MILLIS_MAX)),
        })
    }
}

/// A reply's end has a header that no source writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairEndError;

impl fmt::Display for RepairEndError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("end of a repair has a malformed header")
    }
}

impl core::error::Error for RepairEndError {}
