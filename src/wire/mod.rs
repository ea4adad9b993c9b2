//! Bytes to frames and back, both directions. No I/O, no clock, no policy.
//!
//! ```text
//!   bytes --> Parser --> Frame (offsets only) --> ServerOp / ClientOp   borrowed views
//!                                             \-> Message               one reference count
//!   Publish, encode::* --> bytes
//! ```
//!
//! [`Parser::of_server`] reads what servers say, [`Parser::of_client`] what clients say. The caller
//! owns the bytes; the parser keeps integers.

#[cfg(feature = "arbitrary")]
pub mod arbitrary;
pub mod encode;
mod error;
mod frame;
mod glance;
#[cfg(feature = "json")]
pub mod handshake;
mod headers;
mod limits;
mod line;
mod message;
mod ops;
mod parser;
mod pieces;
#[cfg(feature = "reference")]
pub mod reference;
mod server_error;
mod status;

pub use error::FrameError;
pub use frame::{Frame, OpKind};
pub use headers::{HeaderBlock, HeaderError, HeaderFieldError, HeaderIter, HeaderLines, Headers};
pub use limits::Limits;
pub use message::Message;
pub use ops::{ClientOp, MsgView, PubView, ServerOp};
pub use parser::{Parser, Step};
pub use pieces::{Piece, Pieces};
pub use server_error::{ServerError, Violation};
pub use status::{Status, StatusKind};
