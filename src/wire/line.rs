//! Reads the arguments of one complete control line.

use super::error::FrameError;
use super::frame::{Frame, OpKind, Parts, Span, at};

/// A complete control line.
pub(super) struct Line<'a> {
    /// From its beginning, without the line end.
    pub(super) bytes: &'a [u8],
    /// Where the arguments begin.
    pub(super) args_at: u32,
    /// Bytes of the whole line, its end included.
    pub(super) len: u32,
}

/// HMSG has the most arguments.
pub(super) const ARGUMENTS_MAX: usize = 5;

impl Line<'_> {
    #[inline(always)]
    pub(super) const fn frame(&self, kind: OpKind, parts: Parts) -> Frame {
        Frame {
            kind,
            line_len: self.len,
            header_len: 0,
            body_len: 0,
            has_body: false,
            parts,
        }
    }

    pub(super) fn read(&self, kind: OpKind) -> Result<Frame, FrameError> {
        match kind {
            OpKind::Msg | OpKind::Hmsg | OpKind::Pub | OpKind::Hpub => {
                let (arguments, count) = self.split(is_blank)?;
                self.message(kind, arguments, count)
            }
            OpKind::Sub => self.read_sub(),
            OpKind::Unsub => self.read_unsub(),
            OpKind::Info | OpKind::Connect => {
                let frame = self.read_text(kind);
                if frame.parts.subject.is_empty() {
                    return Err(FrameError::ArgumentCount);
                }
                Ok(frame)
            }
            OpKind::Err | OpKind::Ping | OpKind::Pong | OpKind::Ok => Ok(self.read_text(kind)),
        }
    }

    /// A message of these arguments; its body follows the line.
    #[inline(always)]
    pub(super) fn message(
        &self,
        kind: OpKind,
        [a, b, c, d, e]: [Span; ARGUMENTS_MAX],
        count: usize,
    ) -> Result<Frame, FrameError> {
        let none = Span::default();
        let (subject, sid, reply, header_digits, size_digits) = match (kind, count) {
            (OpKind::Msg, 3) => (a, b, none, none, c),
            (OpKind::Msg, 4) => (a, b, c, none, d),
            (OpKind::Hmsg, 4) => (a, b, none, c, d),
            (OpKind::Hmsg, 5) => (a, b, c, d, e),
            (OpKind::Pub, 2) => (a, none, none, none, b),
            (OpKind::Pub, 3) => (a, none, b, none, c),
            (OpKind::Hpub, 3) => (a, none, none, b, c),
            (OpKind::Hpub, 4) => (a, none, b, c, d),
            _ => return Err(FrameError::ArgumentCount),
        };
        let parts = Parts {
            subject,
            reply,
            sid,
            header_digits,
            size_digits,
        };
        self.with_body(kind, parts)
    }

    fn read_sub(&self) -> Result<Frame, FrameError> {
        let (subject, reply, sid) = match self.split(is_blank_or_line_end)? {
            ([subject, sid, ..], 2) => (subject, Span::default(), sid),
            ([subject, queue_group, sid, ..], 3) => (subject, queue_group, sid),
            _ => return Err(FrameError::ArgumentCount),
        };
        Ok(self.frame(
            OpKind::Sub,
            Parts {
                subject,
                reply,
                sid,
                ..Parts::default()
            },
        ))
    }

    fn read_unsub(&self) -> Result<Frame, FrameError> {
        let (sid, size_digits) = match self.split(is_blank_or_line_end)? {
            ([sid, ..], 1) => (sid, Span::default()),
            ([sid, max, ..], 2) => (sid, max),
            _ => return Err(FrameError::ArgumentCount),
        };
        Ok(self.frame(
            OpKind::Unsub,
            Parts {
                sid,
                size_digits,
                ..Parts::default()
            },
        ))
    }

    /// INFO, CONNECT and -ERR have one argument, which may hold blanks.
    fn read_text(&self, kind: OpKind) -> Frame {
        let args = self.args();
        let blanks = args
            .iter()
            .rev()
            .take_while(|byte| is_blank_or_line_end(**byte))
            .count();
        let len = args.len().saturating_sub(blanks);
        let end = self.args_at.saturating_add(offset(len));
        let subject = Span {
            start: self.args_at,
            end,
        };
        self.frame(
            kind,
            Parts {
                subject,
                ..Parts::default()
            },
        )
    }

    #[inline(always)]
    fn with_body(&self, kind: OpKind, parts: Parts) -> Result<Frame, FrameError> {
        let header_len = if matches!(kind, OpKind::Hmsg | OpKind::Hpub) {
            self.size(parts.header_digits)?
        } else {
            0
        };
        let body_len = self.size(parts.size_digits)?;
        if header_len > body_len {
            return Err(FrameError::HeaderLargerThanTotal);
        }
        Ok(Frame {
            header_len,
            body_len,
            has_body: true,
            ..self.frame(kind, parts)
        })
    }

    fn args(&self) -> &[u8] {
        self.bytes.get(at(self.args_at)..).unwrap_or_default()
    }

    /// Reads one to nine digits.
    #[inline(always)]
    fn size(&self, digits: Span) -> Result<u32, FrameError> {
        let digits = digits.of(self.bytes);
        if digits.is_empty() || digits.len() > 9 {
            return Err(FrameError::BadSize);
        }
        let mut size = 0_u32;
        for byte in digits {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return Err(FrameError::BadSize);
            }
            // Nine digits stay below 2^30.
            size = size.wrapping_mul(10).wrapping_add(u32::from(digit));
        }
        Ok(size)
    }

    /// Cuts the arguments at runs of separators; returns them and how many there are.
    #[inline]
    fn split(
        &self,
        is_separator: impl Fn(u8) -> bool,
    ) -> Result<([Span; ARGUMENTS_MAX], usize), FrameError> {
        let mut spans = [Span::default(); ARGUMENTS_MAX];
        let mut count = 0_usize;
        let mut start = None;
        let mut position = self.args_at;
        for byte in self.args() {
            if is_separator(*byte) {
                if let Some(start) = start.take() {
                    *spans.get_mut(count).ok_or(FrameError::ArgumentCount)? = Span {
                        start,
                        end: position,
                    };
                    count = count.saturating_add(1);
                }
            } else if start.is_none() {
                start = Some(position);
            }
            position = position.saturating_add(1);
        }
        if let Some(start) = start {
            *spans.get_mut(count).ok_or(FrameError::ArgumentCount)? = Span {
                start,
                end: position,
            };
            count = count.saturating_add(1);
        }
        Ok((spans, count))
    }
}

pub(super) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

const fn is_blank_or_line_end(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Narrows an offset that the limits keep small.
#[inline]
pub(super) fn offset(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
