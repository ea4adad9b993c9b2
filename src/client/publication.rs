//! What to publish: a subject, a payload, and perhaps a reply subject and headers.

use bytes::Bytes;

use crate::session::SHARED_PAYLOAD_BYTES_MIN;
use crate::subject::{SubjectRef, ToSubject};
use crate::wire::Headers;
use crate::wire::encode::Publish;

use super::error::Error;

/// What can be a payload. Small ones are copied into the outbox; large ones are kept by reference
/// where their type allows it.
pub trait ToPayload {
    /// The bytes.
    fn bytes(&self) -> &[u8];

    /// The bytes with shared ownership: copied for borrowed types, kept for owned ones.
    fn into_shared(self) -> Bytes;
}

impl ToPayload for &[u8] {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self
    }

    fn into_shared(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl<const N: usize> ToPayload for &[u8; N] {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.as_slice()
    }

    fn into_shared(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl ToPayload for &str {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }

    fn into_shared(self) -> Bytes {
        Bytes::copy_from_slice(self.as_bytes())
    }
}

impl ToPayload for String {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }

    fn into_shared(self) -> Bytes {
        self.into()
    }
}

impl ToPayload for Vec<u8> {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self
    }

    fn into_shared(self) -> Bytes {
        self.into()
    }
}

impl ToPayload for Bytes {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self
    }

    fn into_shared(self) -> Bytes {
        self
    }
}

impl ToPayload for &Bytes {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self
    }

    fn into_shared(self) -> Bytes {
        self.clone()
    }
}

/// A message to publish.
#[derive(Debug, Clone, Copy)]
pub struct Publication<'a, P> {
    pub(super) subject: SubjectRef<'a>,
    pub(super) reply: Option<SubjectRef<'a>>,
    pub(super) headers: Option<&'a Headers>,
    pub(super) payload: P,
}

impl<'a, P: ToPayload> Publication<'a, P> {
    /// A message without reply subject and headers.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Subject`](super::ErrorKind::Subject) when `subject` is no literal subject.
    #[inline]
    pub fn new(subject: &'a (impl ToSubject + ?Sized), payload: P) -> Result<Self, Error> {
        Ok(Self {
            subject: subject.to_subject()?,
            reply: None,
            headers: None,
            payload,
        })
    }

    /// Names the subject for answers.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Subject`](super::ErrorKind::Subject) when `reply` is no literal subject.
    pub fn reply(mut self, reply: &'a (impl ToSubject + ?Sized)) -> Result<Self, Error> {
        self.reply = Some(reply.to_subject()?);
        Ok(self)
    }

    /// Names an inbox of ours for answers.
    pub(super) const fn inbox(mut self, inbox: &'a str) -> Self {
        self.reply = Some(SubjectRef::trusted(inbox));
        self
    }

    /// Adds headers.
    #[must_use]
    pub const fn headers(mut self, headers: &'a Headers) -> Self {
        self.headers = Some(headers);
        self
    }

    /// Whether its payload is queued by reference.
    #[inline]
    pub(super) fn is_large(&self) -> bool {
        self.payload.bytes().len() >= SHARED_PAYLOAD_BYTES_MIN
    }

    /// The same with shared ownership of the payload.
    #[inline]
    pub(super) fn into_shared(self) -> Publication<'a, Bytes> {
        Publication {
            subject: self.subject,
            reply: self.reply,
            headers: self.headers,
            payload: self.payload.into_shared(),
        }
    }

    /// The frame that carries the message.
    #[inline]
    pub(super) fn frame(&self) -> Publish<'_> {
        self.frame_as(self.subject, self.payload.bytes())
    }

    /// [`Publication::frame`] with another subject and payload.
    #[inline]
    pub(super) fn frame_as<'b>(
        &'b self,
        subject: SubjectRef<'b>,
        payload: &'b [u8],
    ) -> Publish<'b> {
        let mut frame = Publish::new(subject, payload);
        if let Some(reply) = self.reply {
            frame = frame.reply(reply);
        }
        if let Some(headers) = self.headers {
            frame = frame.headers(headers);
        }
        frame
    }
}
