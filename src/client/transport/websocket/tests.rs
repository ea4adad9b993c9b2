//! Streams of frames, made by chance: whole ones come out as they went in, spoilt ones end.
#![expect(clippy::arithmetic_side_effects, reason = "test arithmetic")]

use std::collections::VecDeque;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::jitter::Jitter;

use super::*;

/// The socket's other end: gives and takes a few bytes at a time, and sometimes nothing at first.
struct Socket {
    bytes: VecDeque<u8>,
    taken: Arc<std::sync::Mutex<Vec<u8>>>,
    chance: Jitter,
}

impl Socket {
    fn share(&mut self, cx: &Context<'_>) -> Option<usize> {
        let step = self.chance.below(200);
        if step < 20 {
            cx.waker().wake_by_ref();
            return None;
        }
        usize::try_from(step).ok()
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(step) = self.share(cx) else {
            return Poll::Pending;
        };
        let len = step.min(out.remaining()).min(self.bytes.len());
        let bytes: Vec<u8> = self.bytes.drain(..len).collect();
        out.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(step) = self.share(cx) else {
            return Poll::Pending;
        };
        let len = step.min(bytes.len());
        self.taken.lock().unwrap().extend_from_slice(&bytes[..len]);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A WebSocket on `bytes`, and what it writes.
fn opened(
    bytes: &[u8],
    is_compressed: bool,
    seed: u64,
) -> (WebSocket, Arc<std::sync::Mutex<Vec<u8>>>) {
    let taken = Arc::default();
    let socket = Socket {
        bytes: bytes.iter().copied().collect(),
        taken: Arc::clone(&taken),
        chance: Jitter::new(seed),
    };
    // Some of it came with the answer to the request.
    let inflater = is_compressed.then(|| Inflater::new(seed.is_multiple_of(2)));
    (
        WebSocket::new(Box::new(socket), BytesMut::new(), inflater),
        taken,
    )
}

/// A server's frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::write(&mut out, Opcode::Binary, false, [0; 4], &[payload]);
    // Without the mask, and with the bits of the test.
    let mut bytes = out.to_vec();
    let header = bytes.len() - payload.len();
    bytes.drain(header - 4..header);
    bytes[0] = first;
    bytes[1] &= 0x7f;
    bytes
}

/// Messages, some of them compressed, in frames between which control frames stand. Returns the
/// frames and what they say.
fn conversation(chance: &mut Jitter, is_compressed: bool) -> (Vec<u8>, Vec<u8>) {
    let (mut bytes, mut said) = (Vec::new(), Vec::new());
    let mut deflater = Deflater::new();
    for _ in 0..chance.below(12) {
        let len = [0, 1, 100, 126, 3_000, 20_000][usize::try_from(chance.below(6)).unwrap()];
        let letters = 1 + chance.below(255);
        let payload: Vec<u8> = (0..len)
            .map(|_| chance.below(letters).to_le_bytes()[0])
            .collect();
        said.extend_from_slice(&payload);
        let deflated = if is_compressed && chance.hits(0.7) {
            deflater.deflate(&payload).map(<[u8]>::to_vec)
        } else {
            None
        };
        let mut first = if deflated.is_some() { 0x42 } else { 0x02 };
        let sent = deflated.unwrap_or(payload);
        let mut rest = sent.as_slice();
        loop {
            let cut = usize::try_from(chance.below(rest.len() as u64 + 2)).unwrap();
            if chance.hits(0.3) {
                bytes.extend(frame(
                    [0x89, 0x8a][usize::from(chance.hits(0.5))],
                    b"control",
                ));
            }
            if cut >= rest.len() {
                bytes.extend(frame(first | 0x80, rest));
                break;
            }
            bytes.extend(frame(first, &rest[..cut]));
            rest = &rest[cut..];
            first = 0;
        }
    }
    (bytes, said)
}

/// Reads to the end, a few bytes at a time.
async fn read(socket: &mut WebSocket, chance: &mut Jitter) -> (Vec<u8>, io::Result<()>) {
    let mut heard = Vec::new();
    let mut room = vec![0; 5_000];
    loop {
        let len = 1 + usize::try_from(chance.below(room.len() as u64)).unwrap();
        match socket.read(&mut room[..len]).await {
            Ok(0) => return (heard, Ok(())),
            Ok(count) => heard.extend_from_slice(&room[..count]),
            Err(error) => return (heard, Err(error)),
        }
    }
}

#[tokio::test]
async fn a_stream_of_frames_is_read_however_it_is_cut() {
    for seed in 0..60 {
        let mut chance = Jitter::new(seed);
        let is_compressed = chance.hits(0.5);
        let (bytes, said) = conversation(&mut chance, is_compressed);
        let (mut socket, _) = opened(&bytes, is_compressed, seed);
        let (heard, end) = read(&mut socket, &mut chance).await;
        assert!(end.is_ok(), "seed {seed}: {end:?}");
        assert!(
            heard == said,
            "seed {seed}: {} of {}",
            heard.len(),
            said.len()
        );
    }
}

#[tokio::test]
async fn a_spoilt_stream_ends_with_an_error_or_with_its_bytes() {
    for seed in 0..60 {
        let mut chance = Jitter::new(seed);
        let (mut bytes, said) = conversation(&mut chance, true);
        for _ in 0..=chance.below(4) {
            let at = usize::try_from(chance.below(bytes.len() as u64)).unwrap();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= chance.next_u64().to_le_bytes()[0];
            }
        }
        let (mut socket, _) = opened(&bytes, true, seed);
        let (heard, end) = read(&mut socket, &mut chance).await;
        // No ratio of DEFLATE is beyond 1032.
        let most = bytes.len() * 1_032 + said.len();
        assert!(heard.len() <= most, "seed {seed}: {end:?}");
    }
}

#[tokio::test]
async fn what_is_written_reads_back_with_its_pongs_between() {
    for seed in 0..15 {
        let mut chance = Jitter::new(seed);
        let is_compressed = chance.hits(0.5);
        // PINGs come in while we write.
        let pings = frame(0x89, b"ping").repeat(10);
        let (mut socket, taken) = opened(&pings, is_compressed, seed);
        let mut said = Vec::new();
        for _ in 0..10 {
            let len = usize::try_from(chance.below(100_000)).unwrap();
            let letters = 1 + chance.below(255);
            let payload: Vec<u8> = (0..len)
                .map(|_| chance.below(letters).to_le_bytes()[0])
                .collect();
            socket.write_all(&payload).await.unwrap();
            said.extend(payload);
            let mut room = [0; 1];
            let reading = socket.read(&mut room);
            assert_eq!(reading.await.unwrap(), 0, "the pings hold no payload");
        }
        socket.shutdown().await.unwrap();
        let (heard, controls) = unmasked(&taken.lock().unwrap(), is_compressed);
        assert!(
            heard == said,
            "seed {seed}: {} of {}",
            heard.len(),
            said.len()
        );
        assert_eq!(controls.last(), Some(&8), "seed {seed}");
        assert!(controls.contains(&10), "seed {seed}");
    }
}

/// What a client's frames say, and the kinds of its control frames.
fn unmasked(mut bytes: &[u8], is_compressed: bool) -> (Vec<u8>, Vec<u8>) {
    let (mut heard, mut controls) = (Vec::new(), Vec::new());
    while !bytes.is_empty() {
        let mut header = bytes[..bytes.len().min(10)].to_vec();
        assert!(header[1] & 0x80 != 0, "a client masks");
        header[1] &= 0x7f;
        let header = FrameHeader::read(&header).unwrap().unwrap();
        let mask = &bytes[header.len..header.len + 4];
        let start = header.len + 4;
        let end = start + usize::try_from(header.payload_len).unwrap();
        let payload: Vec<u8> = bytes[start..end]
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, key)| byte ^ key)
            .collect();
        if header.opcode.is_control() {
            controls.push(bytes[0] & 0x0f);
        } else if header.is_compressed {
            assert!(is_compressed);
            let mut inflater = Inflater::new(true);
            let mut out = vec![0; WRITE_BYTES_MAX + 1];
            let progress = inflater.inflate(&payload, &mut out).unwrap();
            assert_eq!(progress.taken, payload.len());
            heard.extend_from_slice(&out[..progress.given]);
            let given = inflater.finish(&mut out).unwrap();
            heard.extend_from_slice(&out[..given]);
        } else {
            heard.extend(payload);
        }
        bytes = &bytes[end..];
    }
    (heard, controls)
}
