//! How sure a subscription can be of the numbers of a source.

/// Which numbers of a run are owed to a subscription. Chosen by proof: by the scope that the source
/// announces, held against the subscription's filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Coverage {
    /// All: the source's scope lies within the filter. Every gap is asked for, and lost or won back.
    Strict,
    /// Those that a later message on the same subject names as the one before it: the scope goes
    /// beyond the filter. Other gaps are no news.
    Partial,
    /// None: the subscription shares its messages with the others of a queue group.
    Group,
    /// None yet: the scope is not known. What is missing is asked for once it is, and otherwise
    /// counted as unverifiable after the gap timeout; but what came, and found no room to wait for
    /// its order, is reported lost then.
    #[default]
    Unverified,
}

impl Coverage {
    /// A word for machines: `strict`, `partial`, `group`, `unverified`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Partial => "partial",
            Self::Group => "group",
            Self::Unverified => "unverified",
        }
    }

    /// Whether gaps are losses.
    pub(super) const fn has_claims(self) -> bool {
        matches!(self, Self::Strict | Self::Partial)
    }

    /// Whether some numbers go elsewhere.
    pub(super) const fn is_part(self) -> bool {
        matches!(self, Self::Partial | Self::Group)
    }
}
