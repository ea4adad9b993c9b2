//! How a reply to a repair request ends.

use core::fmt;
use core::time::Duration;

use super::ranges::Ranges;
use super::sender::ReplyStatus;
use super::stamp::{STAMP_HEADER, Stamp, number};

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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RepairEnd {
    /// How it went.
    pub status: ReplyStatus,
    /// The last number that the source has sent, where it says so: what was asked for beyond it
    /// was never sent.
    pub lead: Option<u64>,
    /// Asked-for numbers that will never come.
    pub gone: Ranges,
    /// Whether asked-for numbers were left out because the reply would have been too long.
    pub has_more: bool,
    /// How long to wait before asking again.
    pub retry: Duration,
}

impl RepairEnd {
    /// Reads the code of the status line and the values of the stamp, [`SEQ_GONE`], [`SEQ_MORE`]
    /// and [`SEQ_RETRY`]; `header` finds a header's first value.
    ///
    /// # Errors
    ///
    /// [`RepairEndError`] when the code is that of no end or a value is malformed.
    pub fn read<V: AsRef<[u8]>>(
        code: u16,
        header: impl Fn(&str) -> Option<V>,
    ) -> Result<Self, RepairEndError> {
        let status = ReplyStatus::from_code(code).ok_or(RepairEndError)?;
        let stamp = header(STAMP_HEADER);
        let lead = match &stamp {
            Some(stamp) => Some(Stamp::parse(stamp.as_ref()).ok_or(RepairEndError)?.seq),
            None => None,
        };
        let gone = header(SEQ_GONE)
            .map_or(Ok(Ranges::new()), |text| Ranges::parse(text.as_ref()))
            .map_err(|_| RepairEndError)?;
        let retry = header(SEQ_RETRY)
            .map_or(Some(0), |digits| number(digits.as_ref()))
            .ok_or(RepairEndError)?;
        Ok(Self {
            status,
            lead,
            gone,
            has_more: header(SEQ_MORE).is_some_and(|more| more.as_ref() == b"1"),
            retry: Duration::from_millis(retry.min(RETRY_MILLIS_MAX)),
        })
    }
}

/// A reply's end has a status or a header that no source writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairEndError;

impl fmt::Display for RepairEndError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("end of a repair has an unknown status or a malformed header")
    }
}

impl core::error::Error for RepairEndError {}
