//! Receiving messages: one at a time or in a task, how subscriptions end, groups, answers.
//!
//! `cargo run --features broker --example receiving`
#![allow(
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    clippy::arithmetic_side_effects,
    reason = "an example says what it does, and is about one thing at a time"
)]

mod server;

use std::time::Duration;

use natseq::Client;
use natseq::client::Subscription;
use natseq::wire::Message;
use serde::Deserialize;
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
    synchronous(&client).await?;
    asynchronous(&client).await?;
    unsubscribing(&client).await?;
    unsubscribing_after(&client).await?;
    replying(&client).await?;
    wildcards(&client).await?;
    queue_group(&client).await?;
    structured_data(&client).await?;
    confirmed(&client).await?;
    one_subscription_drained(&client).await?;
    draining(client).await
}

/// The program asks for each message, and says how long it wants to wait.
async fn synchronous(client: &Client) -> Outcome {
    let mut updates = client.subscribe("example.updates")?;
    client.publish("example.updates", "all is well").await?;
    let update = timeout(SOON, updates.next()).await?.ok_or("ended")?;
    assert_eq!(update.payload(), b"all is well");
    let nothing = timeout(Duration::from_millis(10), updates.next()).await;
    assert!(nothing.is_err(), "there was one message");
    Ok(())
}

/// A task of its own takes what comes. A subscription is a `Stream`, too.
async fn asynchronous(client: &Client) -> Outcome {
    let mut updates = client.subscribe("example.updates")?;
    let counting = tokio::spawn(async move {
        let mut bytes = 0;
        while let Some(update) = updates.next().await {
            bytes += update.payload().len();
            if update.payload() == b"done" {
                break;
            }
        }
        bytes
    });
    for text in ["one", "two", "done"] {
        client.publish("example.updates", text).await?;
    }
    assert_eq!(timeout(SOON, counting).await??, 10);
    Ok(())
}

/// Dropping a subscription unsubscribes. `unsubscribe` does so and leaves what came before.
async fn unsubscribing(client: &Client) -> Outcome {
    let mut updates = client.subscribe("example.updates")?;
    client.publish("example.updates", "before").await?;
    client.flush().await?;
    updates.unsubscribe();
    client.publish("example.updates", "after").await?;
    assert_eq!(text(&mut updates).await?, "before");
    assert!(updates.next().await.is_none());
    Ok(())
}

/// After that many messages in all the subscription has ended, on the server as well. Reconnects
/// do not begin a new count.
async fn unsubscribing_after(client: &Client) -> Outcome {
    let mut updates = client
        .subscription("example.updates")
        .delivered_max(2)
        .subscribe()?;
    for number in 1..=5 {
        client
            .publish("example.updates", number.to_string())
            .await?;
    }
    assert_eq!(text(&mut updates).await?, "1");
    assert_eq!(text(&mut updates).await?, "2");
    assert!(updates.next().await.is_none());
    Ok(())
}

/// A message may name a subject for the answer.
async fn replying(client: &Client) -> Outcome {
    let mut questions = client.subscribe("example.time")?;
    let answering = async {
        let question = questions.next().await.ok_or("ended")?;
        if let Some(reply) = question.reply() {
            client.publish(str::from_utf8(reply)?, "noon").await?;
        }
        Outcome::Ok(())
    };
    let (answer, answered) = tokio::join!(client.request("example.time", ""), answering);
    answered?;
    assert_eq!(answer?.payload(), b"noon");
    Ok(())
}

/// `*` stands for one token, `>` for one or more at the end.
async fn wildcards(client: &Client) -> Outcome {
    let mut one_token = client.subscribe("example.time.*.east")?;
    let mut the_rest = client.subscribe("example.time.>")?;
    for zone in ["us.east", "us.east.atlanta", "eu.east", "eu.west"] {
        client
            .publish(format!("example.time.{zone}").as_str(), zone)
            .await?;
    }
    assert_eq!(text(&mut one_token).await?, "us.east");
    assert_eq!(text(&mut one_token).await?, "eu.east");
    for zone in ["us.east", "us.east.atlanta", "eu.east", "eu.west"] {
        assert_eq!(text(&mut the_rest).await?, zone);
    }
    Ok(())
}

/// Each message goes to one member of the group. Others who subscribe get it as well.
async fn queue_group(client: &Client) -> Outcome {
    let mut members = [
        client.queue_subscribe("example.jobs", "workers")?,
        client.queue_subscribe("example.jobs", "workers")?,
    ];
    let watcher = client.subscribe("example.jobs")?;
    for number in 0..100 {
        client.publish("example.jobs", number.to_string()).await?;
    }
    client.flush().await?;
    let done = members
        .each_mut()
        .map(|member| member.statistics().accepted);
    println!("queue group: {done:?} of 100 jobs");
    assert_eq!(done.iter().sum::<u64>(), 100);
    assert_eq!(watcher.statistics().accepted, 100);
    Ok(())
}

/// What a payload means is the program's affair: here JSON.
async fn structured_data(client: &Client) -> Outcome {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Price {
        symbol: String,
        cents: u32,
    }
    let mut prices = client.subscribe("example.prices")?;
    client
        .publish("example.prices", r#"{"symbol":"apple","cents":40}"#)
        .await?;
    let message = timeout(SOON, prices.next()).await?.ok_or("ended")?;
    let price: Price = serde_json::from_slice(message.payload())?;
    assert_eq!((price.symbol.as_str(), price.cents), ("apple", 40));
    Ok(())
}

/// Returns once the server has the subscription: what anybody publishes there now will come. A
/// refusal is an error here, instead of an event later.
async fn confirmed(client: &Client) -> Outcome {
    let mut updates = client.subscribe_confirmed("example.updates").await?;
    client.publish("example.updates", "heard").await?;
    assert_eq!(text(&mut updates).await?, "heard");
    Ok(())
}

/// Ends one subscription after what is under way.
async fn one_subscription_drained(client: &Client) -> Outcome {
    let mut updates = client.subscribe("example.updates")?;
    for number in 0..3 {
        client
            .publish("example.updates", number.to_string())
            .await?;
    }
    updates.drain().await?;
    let mut taken = Vec::new();
    while let Some(update) = updates.next().await {
        taken.push(update);
    }
    assert_eq!(taken.len(), 3);
    Ok(())
}

/// Before a program ends: nothing new is asked for, what has come is worked off, answers go out,
/// and then the connection is closed.
async fn draining(client: Client) -> Outcome {
    let mut jobs = client.subscribe("example.jobs")?;
    let mut results = client.subscribe("example.results")?;
    let worker = client.clone();
    let working = tokio::spawn(async move {
        while let Some(job) = jobs.next().await {
            worker.publish("example.results", job.payload()).await?;
        }
        Outcome::Ok(())
    });
    let counting = tokio::spawn(async move {
        let mut count = 0;
        while results.next().await.is_some() {
            count += 1;
        }
        count
    });
    for number in 0..10 {
        client.publish("example.jobs", number.to_string()).await?;
    }
    client.drain().await?;
    timeout(SOON, working).await???;
    let heard = timeout(SOON, counting).await??;
    println!("draining: 10 jobs done, {heard} results heard here");
    Ok(())
}

async fn text(subscription: &mut Subscription) -> Outcome<String> {
    let message: Message = timeout(SOON, subscription.next()).await?.ok_or("ended")?;
    Ok(String::from_utf8(message.payload().to_vec())?)
}
