//! `--carrier`: where the numbers of messages stand.

use clap::ValueEnum;

use crate::sequence::Carrier;

/// Where the numbers of messages stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum CarrierArg {
    /// In a header, for all but servers without headers
    Header,
    /// In three more tokens of the subject: source, epoch and number
    Token,
    /// In a line ahead of the payload
    Payload,
    /// The number alone, as the last token of the subject, from one sender: what is missing between
    /// others is seen, and not asked for
    Bare,
}

impl CarrierArg {
    /// The carrier; `None` for the plain form, which has no sources.
    pub(super) const fn with_source(self) -> Option<Carrier> {
        match self {
            Self::Header => Some(Carrier::Header),
            Self::Token => Some(Carrier::Token),
            Self::Payload => Some(Carrier::Payload),
            Self::Bare => None,
        }
    }
}
