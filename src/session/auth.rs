//! Credentials for CONNECT. Never shown by `Debug`.

use std::fmt;

use super::server_addr::UrlCredentials;

/// How to identify ourselves to a server whose URL carries no credentials.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// By user name and password.
    UserAndPassword(String, String),
    /// By token.
    Token(String),
}

impl Auth {
    /// The credentials to send: those in the server's URL go first.
    pub(crate) fn for_server(&self, in_url: Option<&UrlCredentials>) -> Self {
        match in_url {
            Some(UrlCredentials::UserAndPassword(user, password)) => {
                Self::UserAndPassword(user.clone(), password.clone())
            }
            Some(UrlCredentials::Token(token)) => Self::Token(token.clone()),
            None => self.clone(),
        }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::None => "None",
            Self::UserAndPassword(..) => "UserAndPassword(..)",
            Self::Token(_) => "Token(..)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_the_url_go_first_and_nothing_shows_them() {
        let auth = Auth::Token("canary".into());
        let in_url = UrlCredentials::UserAndPassword("u".into(), "canary".into());
        let chosen = auth.for_server(Some(&in_url));
        assert_eq!(chosen, Auth::UserAndPassword("u".into(), "canary".into()));
        assert!(!format!("{auth:?} {chosen:?} {in_url:?}").contains("canary"));
    }
}
