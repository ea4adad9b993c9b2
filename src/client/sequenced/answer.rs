//! What the control plane sends, with headers or with all of it in the payload.

use crate::sequence::{Heartbeat, STAMP_HEADER, Stamp, wrapped_len};
use crate::wire::{HeaderBlock, Message};

/// A message of the control plane: its headers, wherever they stand, and its body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer<'a> {
    pub(super) block: HeaderBlock<'a>,
    /// Bytes of the headers when they stand in the payload.
    pub(super) wrapped_len: usize,
    body: &'a [u8],
}

impl<'a> Answer<'a> {
    pub(super) fn new(message: &'a Message) -> Option<Self> {
        let payload = message.payload();
        if let Some(block) = message.headers() {
            return Some(Self {
                block,
                wrapped_len: 0,
                body: payload,
            });
        }
        let wrapped_len = wrapped_len(payload)?;
        let (block, body) = payload.split_at_checked(wrapped_len)?;
        Some(Self {
            block: HeaderBlock::new(block),
            wrapped_len,
            body,
        })
    }

    pub(super) fn heartbeat(self) -> Option<(&'a [u8], Heartbeat)> {
        let stamp = self.block.first(STAMP_HEADER)?;
        let lead = Stamp::parse(stamp)?.seq;
        Some((stamp, Heartbeat::parse(lead, self.body).ok()?))
    }
}
