//! Subjects of the control plane: a mirror of the data subjects, so that the same permissions fit.

use crate::subject::{Filter, Subject, SubjectError};

use super::error::SendError;
use super::source::SourceName;

/// What control subjects begin with unless told otherwise.
pub const DEFAULT_PREFIX: &str = "_SEQ";

/// What stands for `*` where heartbeats go.
const ANY_ONE: &str = "_st";
/// What stands for `>` there.
const ANY_MORE: &str = "_gt";

/// Refuses a scope whose heartbeats would be those of another: one with a token `_st` or `_gt`.
///
/// # Errors
///
/// [`SendError::ReservedToken`].
pub fn check_scope(scope: &Filter) -> Result<(), SendError> {
    let tokens = scope.as_str().split('.');
    match [ANY_ONE, ANY_MORE]
        .into_iter()
        .find(|reserved| tokens.clone().any(|token| token == *reserved))
    {
        Some(token) => Err(SendError::ReservedToken { token }),
        None => Ok(()),
    }
}

/// Makes control subjects under one prefix. Senders and receivers must agree on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ControlSubjects {
    prefix: Subject,
}

impl ControlSubjects {
    /// Takes the prefix.
    #[must_use]
    pub const fn new(prefix: Subject) -> Self {
        Self { prefix }
    }

    /// Where a source with this scope publishes its heartbeats: `_SEQ.HB.<scope>`, with `_st` for
    /// `*` and `_gt` for `>`. Two scopes share none if both are [allowed](check_scope).
    ///
    /// # Errors
    ///
    /// [`SubjectError`] never occurs for a valid scope.
    pub fn heartbeat(&self, scope: &Filter) -> Result<Subject, SubjectError> {
        let mut text = format!("{}.HB", self.prefix.as_str());
        for token in scope.as_str().split('.') {
            text.push('.');
            text.push_str(match token {
                "*" => ANY_ONE,
                ">" => ANY_MORE,
                literal => literal,
            });
        }
        Subject::new(&text)
    }

    /// What a receiver of `filter` subscribes to for heartbeats: every scope that the filter
    /// covers matches.
    ///
    /// # Errors
    ///
    /// [`SubjectError`] never occurs for a valid filter.
    pub fn heartbeats(&self, filter: &Filter) -> Result<Filter, SubjectError> {
        Filter::new(&format!("{}.HB.{}", self.prefix.as_str(), filter.as_str()))
    }

    /// Where a source listens for repair requests: `_SEQ.RX.<source>.<epoch>`.
    ///
    /// # Errors
    ///
    /// [`SubjectError`] never occurs for a valid name.
    pub fn repair(&self, source: &SourceName, epoch: u64) -> Result<Subject, SubjectError> {
        Subject::new(&format!("{}.RX.{source}.{epoch}", self.prefix.as_str()))
    }

    /// What a source that holds its name listens to: repair requests for every run of the name.
    ///
    /// # Errors
    ///
    /// [`SubjectError`] never occurs for a valid name.
    pub fn repairs(&self, source: &SourceName) -> Result<Filter, SubjectError> {
        Filter::new(&format!("{}.RX.{source}.*", self.prefix.as_str()))
    }

    /// Where is said who holds a name: `_SEQ.NM.<source>`.
    ///
    /// # Errors
    ///
    /// [`SubjectError`] never occurs for a valid name.
    pub fn name(&self, source: &SourceName) -> Result<Subject, SubjectError> {
        Subject::new(&format!("{}.NM.{source}", self.prefix.as_str()))
    }

    /// Where an archive is asked for what a run of a source has sent: `_SEQ.AR.<source>.<epoch>`.
    ///
    /// # Errors
    ///
    /// [`SubjectError`] never occurs for a valid name.
    pub fn archive(&self, source: &SourceName, epoch: u64) -> Result<Subject, SubjectError> {
        Subject::new(&format!("{}.AR.{source}.{epoch}", self.prefix.as_str()))
    }

    /// Whether this is where a source or an archive is asked.
    #[cfg(feature = "client")]
    pub(crate) fn is_request(&self, subject: &str) -> bool {
        let rest = subject.strip_prefix(self.prefix.as_str());
        rest.is_some_and(|rest| rest.starts_with(".RX.") || rest.starts_with(".AR."))
    }

    /// Where archives listen for repair requests to any source: `_SEQ.AR.*.*`, its name and epoch.
    ///
    /// # Errors
    ///
    /// [`SubjectError`] never occurs.
    pub fn archives(&self) -> Result<Filter, SubjectError> {
        Filter::new(&format!("{}.AR.*.*", self.prefix.as_str()))
    }
}

impl Default for ControlSubjects {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "the literal is a subject")]
        Self::new(Subject::new(DEFAULT_PREFIX).expect("a literal subject"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_that_would_speak_for_another_is_refused() {
        for (scope, token) in [("orders._gt", "_gt"), ("_st.eu", "_st"), ("a._st.>", "_st")] {
            let refused = check_scope(&Filter::new(scope).unwrap());
            assert_eq!(refused, Err(SendError::ReservedToken { token }), "{scope}");
        }
        for scope in ["orders.>", "*", "_gt1.x_st"] {
            assert_eq!(check_scope(&Filter::new(scope).unwrap()), Ok(()), "{scope}");
        }
    }

    #[test]
    fn a_receiver_hears_every_scope_that_its_filter_covers() {
        let subjects = ControlSubjects::default();
        let cases = [
            ("orders.>", "orders.>", true),
            ("orders.>", "orders.eu.*", true),
            ("orders.*", "orders.*", true),
            (">", "a", true),
            ("d.x", "d.x", true),
            ("orders.eu", "orders.>", false),
            ("orders.eu.*", "orders.us.*", false),
        ];
        for (filter, scope, is_heard) in cases {
            let filter = subjects.heartbeats(&Filter::new(filter).unwrap()).unwrap();
            let heartbeat = subjects.heartbeat(&Filter::new(scope).unwrap()).unwrap();
            let subject = heartbeat.as_str().as_bytes();
            assert_eq!(filter.matches(subject), is_heard, "{filter:?} {scope}");
        }
    }
}
