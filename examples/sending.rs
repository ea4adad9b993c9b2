//! Sending messages: with a reply subject, with headers, as requests, and knowing that they are out.
//!
//! `cargo run --features broker --example sending`
#![allow(
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    clippy::arithmetic_side_effects,
    reason = "an example says what it does, and is about one thing at a time"
)]

mod server;

use std::time::Duration;

use natseq::Client;
use natseq::client::{ErrorKind, Publication, RepliesEnd, Subscription};
use natseq::wire::{Headers, Message};
use serde::Serialize;
use tokio::time::timeout;

use server::{Outcome, SOON, Server};

#[tokio::main]
async fn main() -> Outcome {
    let server = Server::find().await?;
    run(server.url()).await
}

/// Everything below, one after the other.
pub(crate) async fn run(url: &str) -> Outcome {
    let client = natseq::connect(url).await?;
    reply_subject(&client).await?;
    headers(&client).await?;
    request(&client).await?;
    nobody_there(&client).await?;
    many_replies(&client).await?;
    flush(&client).await?;
    without_waiting(&client)?;
    structured_data(&client).await?;
    client.drain().await?;
    Ok(())
}

/// An answer may be wanted on a subject of our choice, now or much later.
async fn reply_subject(client: &Client) -> Outcome {
    let mut questions = client.subscribe("example.time")?;
    let inbox = client.new_inbox()?;
    client
        .send(Publication::new("example.time", "in Paris")?.reply(&inbox)?)
        .await?;
    let question = next(&mut questions).await?;
    assert_eq!(question.reply(), Some(inbox.as_bytes()));
    Ok(())
}

/// Headers keep their order and their letters; a name may occur more than once.
async fn headers(client: &Client) -> Outcome {
    let mut orders = client.subscribe("example.orders")?;
    let mut headers = Headers::new();
    headers.append("Trace", "7")?;
    headers.append("Step", "first")?;
    headers.append("Step", "second")?;
    client
        .send(Publication::new("example.orders", "two apples")?.headers(&headers))
        .await?;
    let order = next(&mut orders).await?;
    let found = order.headers().ok_or("no headers")?;
    assert_eq!(found.first("Trace"), Some(&b"7"[..]));
    assert_eq!(found.all("Step").count(), 2);
    Ok(())
}

/// A question with one answer, and a bound on the wait.
async fn request(client: &Client) -> Outcome {
    let service = answer_all(client, "example.prices")?;
    let answer = client.request("example.prices", "apple").await?;
    assert_eq!(answer.payload(), b"apple: 40");
    let requester = client.requester("example.prices")?;
    let answer = requester
        .timeout(Duration::from_secs(2))
        .request("pear")
        .await?;
    assert_eq!(answer.payload(), b"pear: 40");
    service.abort();
    Ok(())
}

/// When nobody subscribes to the subject the server says so at once.
async fn nobody_there(client: &Client) -> Outcome {
    let error = client.request("example.nobody", "hello?").await.err();
    assert_eq!(
        error.map(|error| error.kind()),
        Some(ErrorKind::NoResponders)
    );
    Ok(())
}

/// A question to several: take answers until enough have come, until a last one, or until silence.
async fn many_replies(client: &Client) -> Outcome {
    let services = [
        answer_all(client, "example.offers")?,
        answer_all(client, "example.offers")?,
        answer_all(client, "example.offers")?,
    ];
    let mut offers = client
        .requester("example.offers")?
        .replies_max(3)
        .stall(Duration::from_secs(1))
        .request_many("apple")
        .await?;
    let mut count = 0;
    while let Some(offer) = offers.next().await {
        assert_eq!(offer.payload(), b"apple: 40");
        count += 1;
    }
    assert_eq!((count, offers.end()), (3, Some(&RepliesEnd::Count)));
    for service in services {
        service.abort();
    }
    Ok(())
}

/// Published messages are gathered and written together a moment later. A flush returns when the
/// server has answered a PING behind them: it has read them all. The round trip is that time.
async fn flush(client: &Client) -> Outcome {
    for number in 0..1_000 {
        client.publish("example.many", number.to_string()).await?;
    }
    client.flush().await?;
    println!("flush: a round trip takes {:?}", client.round_trip().await?);
    Ok(())
}

/// Where nothing may wait: fails instead when too much is to be written already.
fn without_waiting(client: &Client) -> Outcome {
    match client.try_publish("example.measured", "12.5") {
        Err(error) if matches!(error.kind(), ErrorKind::OutboxFull { .. }) => {
            println!("one measurement left out: {error}");
        }
        published => published?,
    }
    Ok(())
}

/// What a payload means is the program's affair: here JSON.
async fn structured_data(client: &Client) -> Outcome {
    #[derive(Serialize)]
    struct Price<'a> {
        symbol: &'a str,
        cents: u32,
    }
    let mut prices = client.subscribe("example.prices")?;
    let price = Price {
        symbol: "apple",
        cents: 40,
    };
    client
        .publish("example.prices", serde_json::to_vec(&price)?)
        .await?;
    let message = next(&mut prices).await?;
    assert_eq!(message.payload(), br#"{"symbol":"apple","cents":40}"#);
    Ok(())
}

/// Answers every question on `subject`.
fn answer_all(client: &Client, subject: &str) -> Outcome<tokio::task::JoinHandle<Outcome>> {
    let mut questions = client.subscribe(subject)?;
    let client = client.clone();
    Ok(tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let item = str::from_utf8(question.payload())?;
            if let Some(reply) = question.reply() {
                let answer = format!("{item}: 40");
                client.publish(str::from_utf8(reply)?, answer).await?;
            }
        }
        Ok(())
    }))
}

async fn next(subscription: &mut Subscription) -> Outcome<Message> {
    Ok(timeout(SOON, subscription.next()).await?.ok_or("ended")?)
}
