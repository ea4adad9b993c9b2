//! The headers of WebSocket frames, both ways (RFC 6455, section 5). Pure.

use bytes::BytesMut;

/// A frame longer than this is nonsense. Frames are passed on as they arrive and never collected,
/// so this bounds no memory.
const FRAME_BYTES_MAX: u64 = 1 << 40;

/// The largest payload of a control frame.
pub(super) const CONTROL_BYTES_MAX: usize = 125;

/// What kind of frame it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::Continuation),
            1 => Some(Self::Text),
            2 => Some(Self::Binary),
            8 => Some(Self::Close),
            9 => Some(Self::Ping),
            10 => Some(Self::Pong),
            _ => None,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    pub(super) const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// A server's frame without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) opcode: Opcode,
    pub(super) is_final: bool,
    pub(super) is_compressed: bool,
    pub(super) payload_len: u64,
    /// Bytes of the header itself.
    pub(super) len: usize,
}

impl FrameHeader {
    /// Reads the header that `bytes` begin with; `None` when there are too few.
    ///
    /// # Errors
    ///
    /// What a server may not send.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>, String> {
        let Some(([first, second], rest)) = bytes.split_first_chunk() else {
            return Ok(None);
        };
        if first & 0x30 != 0 {
            return Err("frame with a reserved bit".to_owned());
        }
        let Some(opcode) = Opcode::from_bits(first & 0x0f) else {
            return Err(format!("frame of unknown kind {}", first & 0x0f));
        };
        if second & 0x80 != 0 {
            return Err("masked frame from a server".to_owned());
        }
        let (payload_len, len) = match second & 0x7f {
            126 => match rest.first_chunk() {
                Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 4),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(bytes) => (u64::from_be_bytes(*bytes), 10),
                None => return Ok(None),
            },
            len => (u64::from(len), 2),
        };
        if payload_len > FRAME_BYTES_MAX {
            return Err(format!(
                "frame length {payload_len} exceeds {FRAME_BYTES_MAX} bytes"
            ));
        }
        let header = Self {
            opcode,
            is_final: first & 0x80 != 0,
            is_compressed: first & 0x40 != 0,
            payload_len,
            len,
        };
        if opcode.is_control() {
            if payload_len > CONTROL_BYTES_MAX as u64 {
                return Err(format!(
                    "control frame length {payload_len} exceeds {CONTROL_BYTES_MAX} bytes"
                ));
            }
            if !header.is_final || header.is_compressed {
                return Err("control frame in pieces or compressed".to_owned());
            }
        }
        Ok(Some(header))
    }
}

/// Appends a client's whole frame: its payload is `parts`, masked with `mask`.
pub(super) fn write(
    out: &mut BytesMut,
    opcode: Opcode,
    is_compressed: bool,
    mask: [u8; 4],
    parts: &[&[u8]],
) {
    let len: usize = parts
        .iter()
        .fold(0, |sum, part| sum.saturating_add(part.len()));
    out.reserve(len.saturating_add(HEADER_BYTES_MAX));
    let compressed = if is_compressed { 0x40 } else { 0 };
    let first = 0x80 | compressed | opcode.bits();
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len), _) if len < 126 => out.extend_from_slice(&[first, 0x80 | len]),
        (_, Ok(len)) => {
            out.extend_from_slice(&[first, 0x80 | 126]);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            out.extend_from_slice(&[first, 0x80 | 127]);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    let payload = out.len();
    for part in parts {
        out.extend_from_slice(part);
    }
    apply(mask, out.get_mut(payload..).unwrap_or_default());
}

const HEADER_BYTES_MAX: usize = 14;

/// Masks `bytes`, or takes the mask off.
fn apply(mask: [u8; 4], bytes: &mut [u8]) {
    let (words, rest) = bytes.as_chunks_mut::<4>();
    for word in words {
        for (byte, key) in word.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
    for (byte, key) in rest.iter_mut().zip(mask) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(bytes: &[u8]) -> FrameHeader {
        FrameHeader::read(bytes).unwrap().unwrap()
    }

    #[test]
    fn each_length_is_read_in_its_three_forms() {
        for (bytes, payload_len, len) in [
            (&[0x82, 5][..], 5, 2),
            (&[0x82, 126, 1, 2], 258, 4),
            (&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0], 65_536, 10),
        ] {
            let found = header(bytes);
            assert_eq!((found.payload_len, found.len), (payload_len, len));
            for cut in 0..bytes.len() {
                assert_eq!(FrameHeader::read(&bytes[..cut]), Ok(None), "{cut}");
            }
        }
    }

    #[test]
    fn what_a_server_may_not_send_is_refused() {
        for (bytes, expected) in [
            (&[0x92, 0][..], "frame with a reserved bit"),
            (&[0x83, 0], "frame of unknown kind 3"),
            (&[0x82, 0x80], "masked frame from a server"),
            (
                &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0],
                "frame length 9223372036854775808 exceeds 1099511627776 bytes",
            ),
            (
                &[0x89, 126, 0, 126],
                "control frame length 126 exceeds 125 bytes",
            ),
            (&[0x09, 0], "control frame in pieces or compressed"),
            (&[0xc9, 0], "control frame in pieces or compressed"),
        ] {
            assert_eq!(FrameHeader::read(bytes), Err(expected.to_owned()));
        }
    }

    #[test]
    fn a_written_frame_says_its_length_and_is_masked() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 100_001] {
            let payload: Vec<u8> = (0..=255).cycle().take(len).collect();
            let (one, two) = payload.split_at(len / 3);
            let mut out = BytesMut::new();
            write(&mut out, Opcode::Binary, true, [1, 2, 3, 4], &[one, two]);
            // With the mask bit taken off it reads as a server's frame.
            out[1] &= 0x7f;
            let found = header(&out);
            assert_eq!(found.payload_len, len as u64);
            assert!(found.is_final && found.is_compressed);
            let start = found.len + 4;
            assert_eq!(&out[found.len..start], [1, 2, 3, 4]);
            let mut unmasked = out[start..].to_vec();
            apply([1, 2, 3, 4], &mut unmasked);
            assert_eq!(unmasked, payload);
        }
    }
}
