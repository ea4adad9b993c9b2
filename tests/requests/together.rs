//! Requests at the same time, and how many writes they take.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use natseq::ConnectOptions;
use natseq::client::{Client, Publication};
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream, ReadBuf,
};

use crate::within;

const ROUNDS: usize = 200;
const TOGETHER: usize = 32;

/// A stream that counts what is written in one go.
struct Counting {
    stream: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A client of a server that answers `answered` requests at a time, and the writes of the former.
async fn connected(answered: usize) -> (Client, Arc<AtomicUsize>) {
    let writes = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&writes);
    let options = ConnectOptions::new().dialer(move |_server| {
        let (stream, server) = tokio::io::duplex(1 << 20);
        tokio::spawn(serve(server, answered));
        let writes = Arc::clone(&counter);
        async move { Ok(Counting { stream, writes }) }
    });
    (options.connect("server").await.unwrap(), writes)
}

async fn serve(stream: DuplexStream, answered: usize) -> io::Result<()> {
    let (reader, mut writer) = tokio::io::split(stream);
    let mut lines = BufReader::new(reader).lines();
    writer.write_all(b"INFO {\"headers\":true} \r\n").await?;
    let (mut answers, mut waiting) = (String::new(), 0);
    while let Some(line) = lines.next_line().await? {
        if line == "PING" {
            writer.write_all(b"PONG\r\n").await?;
        }
        let Some(rest) = line.strip_prefix("PUB q ") else {
            continue;
        };
        let reply = rest.strip_suffix(" 1").unwrap();
        answers += &format!("MSG {reply} 1 1\r\nx\r\n");
        waiting += 1;
        if waiting == answered {
            writer.write_all(answers.as_bytes()).await?;
            answers.clear();
            waiting = 0;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_were_answered_together_ask_again_in_few_writes() {
    let (client, writes) = connected(TOGETHER).await;
    let callers = (0..TOGETHER).map(|_| {
        let client = client.clone();
        tokio::spawn(async move {
            for _ in 0..ROUNDS {
                client.request("q", "x").await.unwrap();
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        within(caller).await.unwrap();
    }
    let writes = writes.load(Ordering::Relaxed);
    println!("{writes} writes for {ROUNDS} rounds of {TOGETHER} requests");
    assert!(writes < ROUNDS * 3, "{writes} writes");
    client.close().await;
}

/// Nobody was answered: nothing more is to come.
#[tokio::test]
async fn what_is_published_while_requests_wait_is_written_at_once() {
    let (client, writes) = connected(usize::MAX).await;
    let (asking, publishing) = (client.clone(), client.clone());
    let waiting = (0..3).map(|_| {
        let client = asking.clone();
        tokio::spawn(async move { client.request("q", "x").await })
    });
    let waiting: Vec<_> = waiting.collect();
    within(async {
        while client.pending_requests() < waiting.len() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    client.flush().await.unwrap();
    let before = writes.load(Ordering::Relaxed);
    let counted = Arc::clone(&writes);
    // In a task, so that it and the driver have their turns one after the other.
    let after = tokio::spawn(async move {
        publishing.try_publish("p", "x").unwrap();
        let mut has_waited = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut has_waited, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        counted.load(Ordering::Relaxed)
    });
    assert_eq!(within(after).await.unwrap(), before + 1, "not in its turn");
    client.close().await;
    for request in waiting {
        within(request).await.unwrap().unwrap_err();
    }
}

#[tokio::test]
async fn a_drain_goes_on_once_all_is_answered_though_nobody_has_looked() {
    let (client, _) = connected(2).await;
    let mut request = pin!(client.request("q", "x"));
    let is_pending = poll_fn(|cx| Poll::Ready(request.as_mut().poll(cx).is_pending())).await;
    assert!(is_pending);
    let draining = tokio::spawn({
        let client = client.clone();
        async move { client.drain().await }
    });
    // Everything here runs on one thread: by then the drain waits for the answer.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert!(!draining.is_finished());
    // The second of the two at which the server answers both.
    let second = Publication::new("q", "x").and_then(|second| second.reply("nobody"));
    client.send(second.unwrap()).await.unwrap();
    within(draining).await.unwrap().unwrap();
    assert_eq!(within(request).await.unwrap().payload(), b"x");
}
