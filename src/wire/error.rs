//! Why a stream of bytes is no NATS conversation.

use core::fmt;

/// The stream is broken; the parser repeats the error for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FrameError {
    /// The bytes begin no operation that this side may send.
    UnknownOp,
    /// The arguments are longer than the limit.
    LineTooLong {
        /// The limit in bytes.
        max: usize,
    },
    /// Headers and payload are declared longer than the limit.
    PayloadTooLong {
        /// The declared length in bytes.
        found: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The operation has too few or too many arguments.
    ArgumentCount,
    /// A size is not one to nine digits.
    BadSize,
    /// Headers are not allowed on this connection.
    HeadersRefused,
    /// The headers are declared longer than headers and payload together.
    HeaderLargerThanTotal,
    /// The payload is not followed by CR LF.
    PayloadTerminator,
}

impl FrameError {
    /// A stable name without blanks, for machines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownOp => "unknown_op",
            Self::LineTooLong { .. } => "line_too_long",
            Self::PayloadTooLong { .. } => "payload_too_long",
            Self::ArgumentCount => "argument_count",
            Self::BadSize => "bad_size",
            Self::HeadersRefused => "headers_refused",
            Self::HeaderLargerThanTotal => "header_larger_than_total",
            Self::PayloadTerminator => "payload_terminator",
        }
    }

    /// The `-ERR` text with which a server answers this before it closes the connection; `None`
    /// where servers close without a word.
    #[must_use]
    pub const fn server_answer(self) -> Option<&'static str> {
        match self {
            Self::UnknownOp | Self::PayloadTerminator => Some("Unknown Protocol Operation"),
            Self::LineTooLong { .. } => Some("maximum control line exceeded"),
            Self::PayloadTooLong { .. } => Some("Maximum Payload Violation"),
            Self::ArgumentCount
            | Self::BadSize
            | Self::HeadersRefused
            | Self::HeaderLargerThanTotal => None,
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownOp => out.write_str("bytes begin no operation of the protocol"),
            Self::LineTooLong { max } => write!(out, "control line exceeds {max} bytes"),
            Self::PayloadTooLong { found, max } => {
                write!(out, "declared length {found} exceeds {max} bytes")
            }
            Self::ArgumentCount => out.write_str("operation has a wrong number of arguments"),
            Self::BadSize => out.write_str("size is not one to nine digits"),
            Self::HeadersRefused => out.write_str("headers are not allowed on this connection"),
            Self::HeaderLargerThanTotal => {
                out.write_str("declared header length exceeds the total length")
            }
            Self::PayloadTerminator => out.write_str("payload is not followed by CR LF"),
        }
    }
}

impl core::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_a_name_and_says_what_was_found_and_what_is_allowed() {
        let found = 9;
        let max = 8;
        let cases = [
            (
                FrameError::UnknownOp,
                "unknown_op",
                "bytes begin no operation of the protocol",
            ),
            (
                FrameError::LineTooLong { max },
                "line_too_long",
                "control line exceeds 8 bytes",
            ),
            (
                FrameError::PayloadTooLong { found, max },
                "payload_too_long",
                "declared length 9 exceeds 8 bytes",
            ),
            (
                FrameError::ArgumentCount,
                "argument_count",
                "operation has a wrong number of arguments",
            ),
            (
                FrameError::BadSize,
                "bad_size",
                "size is not one to nine digits",
            ),
            (
                FrameError::HeadersRefused,
                "headers_refused",
                "headers are not allowed on this connection",
            ),
            (
                FrameError::HeaderLargerThanTotal,
                "header_larger_than_total",
                "declared header length exceeds the total length",
            ),
            (
                FrameError::PayloadTerminator,
                "payload_terminator",
                "payload is not followed by CR LF",
            ),
        ];
        for (error, name, text) in cases {
            assert_eq!((error.name(), error.to_string().as_str()), (name, text));
        }
    }
}
