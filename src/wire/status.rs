//! What servers mean by the status line of a header block.

/// A status line: what a server says instead of, or about, a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "the protocol is complete")]
pub struct Status<'a> {
    /// Three digits.
    pub code: u16,
    /// What follows them, without blanks around it; may be empty.
    pub description: &'a [u8],
}

/// The meaning of a status line, told by its code and how its description begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StatusKind {
    /// 100: the consumer has nothing to say, and is alive.
    IdleHeartbeat,
    /// 100: answer with an empty message to the reply subject.
    FlowControl,
    /// 204: the end of a batch (`EOB`) or of a snapshot.
    End,
    /// 400: the request makes no sense; the description says why.
    BadRequest,
    /// 404: nothing is pending.
    NoMessages,
    /// 404: no message has that number or subject.
    MessageNotFound,
    /// 404: no message matches.
    NoResults,
    /// 408: the request has expired.
    RequestTimeout,
    /// 408: nobody waits for the answer any more.
    InterestExpired,
    /// 408: others wait already, and the request does not want to.
    RequestsPending,
    /// 408: the request has no body.
    EmptyRequest,
    /// 408: the request's body is malformed.
    MalformedRequest,
    /// 408: a snapshot's receiver has gone.
    NoInterest,
    /// 408: a snapshot's receiver does not acknowledge.
    NoFlowResponse,
    /// 409: the consumer does not exist any more.
    ConsumerDeleted,
    /// 409: the consumer delivers without being asked.
    ConsumerIsPush,
    /// 409: another server leads the consumer; ask again.
    LeadershipChange,
    /// 409: the server shuts down; ask again.
    ServerShutdown,
    /// 409: the request has had its number of bytes.
    BatchCompleted,
    /// 409: the next message is larger than the request allows.
    MessageTooLarge,
    /// 409: the request asks for more than the consumer allows.
    LimitExceeded,
    /// 409: the consumer moves to another server (2.9.0).
    ConsumerMigration,
    /// 412: the server does not have the API level that the request demands.
    ApiLevelRequired,
    /// 413: more than 1,024 subjects match.
    TooManyResults,
    /// 423: the group is pinned to another client.
    PinMismatch,
    /// 429: the stream takes no more now. The message has a body.
    TooManyRequests,
    /// 500: the server failed; the description says why.
    ServerFailure,
    /// 503: nobody subscribes where the request went.
    NoResponders,
    /// A line that is not known.
    Other,
}

const KNOWN: &[(u16, &str, StatusKind)] = &[
    (100, "idle heartbeat", StatusKind::IdleHeartbeat),
    (100, "flow", StatusKind::FlowControl),
    (204, "", StatusKind::End),
    (400, "", StatusKind::BadRequest),
    (404, "no messages", StatusKind::NoMessages),
    (404, "message not found", StatusKind::MessageNotFound),
    (404, "no results", StatusKind::NoResults),
    (408, "request timeout", StatusKind::RequestTimeout),
    (408, "interest expired", StatusKind::InterestExpired),
    (408, "requests pending", StatusKind::RequestsPending),
    (408, "empty request", StatusKind::EmptyRequest),
    (408, "malformed request", StatusKind::MalformedRequest),
    (408, "bad request", StatusKind::MalformedRequest),
    (408, "no interest", StatusKind::NoInterest),
    (408, "no flow response", StatusKind::NoFlowResponse),
    (409, "consumer deleted", StatusKind::ConsumerDeleted),
    (409, "consumer is push based", StatusKind::ConsumerIsPush),
    (409, "leadership change", StatusKind::LeadershipChange),
    (409, "server shutdown", StatusKind::ServerShutdown),
    (409, "batch completed", StatusKind::BatchCompleted),
    (
        409,
        "message size exceeds maxbytes",
        StatusKind::MessageTooLarge,
    ),
    (409, "exceeded max", StatusKind::LimitExceeded),
    (409, "consumer migration", StatusKind::ConsumerMigration),
    (412, "", StatusKind::ApiLevelRequired),
    (413, "", StatusKind::TooManyResults),
    (423, "", StatusKind::PinMismatch),
    (429, "", StatusKind::TooManyRequests),
    (500, "", StatusKind::ServerFailure),
    (503, "", StatusKind::NoResponders),
];

impl Status<'_> {
    /// Tells what it means.
    #[must_use]
    pub fn kind(&self) -> StatusKind {
        let begins = |start: &str| {
            let head = self.description.get(..start.len());
            head.is_some_and(|head| head.eq_ignore_ascii_case(start.as_bytes()))
        };
        let known = KNOWN.iter();
        let mut known = known.filter(|(code, start, _)| *code == self.code && begins(start));
        known.next().map_or(StatusKind::Other, |(_, _, kind)| *kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::HeaderBlock;

    #[test]
    fn every_status_line_of_a_server_has_its_meaning() {
        let lines = [
            ("100 Idle Heartbeat", StatusKind::IdleHeartbeat),
            ("100 FlowControl Request", StatusKind::FlowControl),
            ("204 EOB", StatusKind::End),
            ("204", StatusKind::End),
            (
                "400 Bad Request - heartbeat value too large",
                StatusKind::BadRequest,
            ),
            ("404 No Messages", StatusKind::NoMessages),
            ("404 Message Not Found", StatusKind::MessageNotFound),
            ("404 No Results", StatusKind::NoResults),
            ("408 Request Timeout", StatusKind::RequestTimeout),
            ("408 Interest Expired", StatusKind::InterestExpired),
            ("408 Requests Pending", StatusKind::RequestsPending),
            ("408 Empty Request", StatusKind::EmptyRequest),
            ("408 Malformed Request", StatusKind::MalformedRequest),
            ("408 Bad Request", StatusKind::MalformedRequest),
            ("408 No Interest", StatusKind::NoInterest),
            ("408 No Flow Response", StatusKind::NoFlowResponse),
            ("409 Consumer Deleted", StatusKind::ConsumerDeleted),
            ("409 Consumer is push based", StatusKind::ConsumerIsPush),
            ("409 Leadership Change", StatusKind::LeadershipChange),
            ("409 Server Shutdown", StatusKind::ServerShutdown),
            ("409 Batch Completed", StatusKind::BatchCompleted),
            (
                "409 Message Size Exceeds MaxBytes",
                StatusKind::MessageTooLarge,
            ),
            (
                "409 Exceeded MaxRequestBatch of 5",
                StatusKind::LimitExceeded,
            ),
            (
                "409 Exceeded MaxRequestExpires of 1s",
                StatusKind::LimitExceeded,
            ),
            ("409 Exceeded MaxWaiting", StatusKind::LimitExceeded),
            ("409 Consumer Migration", StatusKind::ConsumerMigration),
            ("412 Required Api Level", StatusKind::ApiLevelRequired),
            ("413 Too Many Results", StatusKind::TooManyResults),
            ("423 Nats-Wrong-Pin-Id", StatusKind::PinMismatch),
            ("423 Nats-Pin-Id mismatch", StatusKind::PinMismatch),
            ("429 Too Many Requests", StatusKind::TooManyRequests),
            ("500 out of space", StatusKind::ServerFailure),
            ("503", StatusKind::NoResponders),
            ("404", StatusKind::Other),
            ("404 no", StatusKind::Other),
            ("200 OK", StatusKind::Other),
        ];
        for (line, kind) in lines {
            let block = format!("NATS/1.0 {line}\r\n\r\n");
            let status = HeaderBlock::new(block.as_bytes()).status().unwrap();
            assert_eq!(status.unwrap().kind(), kind, "{line}");
        }
    }
}
