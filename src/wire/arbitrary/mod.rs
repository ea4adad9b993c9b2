//! Operations and sessions for anybody's fuzzer or property test: valid ones, and nearly valid ones.
//!
//! ```text
//!   ClientOperation, ServerOperation     one valid operation
//!   ClientSession, ServerSession         a valid conversation's one side
//!   NearlyValid<any of these>            its bytes, damaged; each Mutation has a name
//! ```
//!
//! All implement [`Arbitrary`](arbitrary::Arbitrary): the same bytes make the same session, and
//! fewer bytes make a shorter one, so that fuzzers can minimise.
//!
//! ```
//! use arbitrary::{Arbitrary, Unstructured};
//! use natseq::wire::arbitrary::{ClientSession, NearlyValid};
//!
//! let entropy = [7; 256];
//! let damaged = NearlyValid::<ClientSession>::arbitrary(&mut Unstructured::new(&entropy))?;
//! println!("{:?}: {}", damaged.mutations, damaged.to_bytes().escape_ascii());
//! # Ok::<(), arbitrary::Error>(())
//! ```

mod draft;
mod mutation;
mod operation;
mod session;
mod words;

pub use mutation::{Mutation, NearlyValid};
pub use operation::{ClientOperation, MessageParts, ServerOperation};
pub use session::{ClientSession, Frames, ServerSession};

#[cfg(test)]
mod tests;
