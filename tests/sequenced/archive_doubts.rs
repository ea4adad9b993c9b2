//! What an archive makes of a stream that was made anew, lags, or has lost its consumer.

use std::net::SocketAddr;
use std::time::Duration;

use natseq::broker::{Broker, BrokerOptions};
use natseq::client::{Client, ConnectOptions, Publication, Subscription, connect};
use natseq::jetstream::{Archive, ArchiveOptions};
use natseq::wire::{Headers, Message};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;
use tokio::time::{advance, pause, resume, timeout};

use crate::archive::{ask, create_stream, lossy, status};
use crate::support::{PATIENCE, servers};

/// It holds more by then than the archive had seen of it before.
#[tokio::test]
async fn a_stream_that_was_made_anew_is_read_from_its_beginning() {
    for binary in servers("an archive's stream made anew") {
        let (server, _folder) = lossy(&binary);
        let client = connect(&server.url()).await.unwrap();
        create_stream(&client, true).await;
        let mut archive = Archive::start(&client, ArchiveOptions::new("S"))
            .await
            .unwrap();
        publish_numbered(&client, 7, 1..=10).await;
        index(&mut archive, 10).await;
        api(&client, "STREAM.DELETE.S", json!({})).await;
        create_stream(&client, true).await;
        publish_numbered(&client, 8, 1..=20).await;
        let serving = tokio::spawn(async move {
            archive.run().await;
            archive.statistics()
        });
        // The places of the old ones carry new ones: that is how it learns of it.
        let end = ask(&client, "_SEQ.AR.dead.7", "1-10").await;
        assert_eq!((end.len(), status(&end[0])), (1, 204), "{}", binary.version);
        let all = async {
            while ask(&client, "_SEQ.AR.dead.8", "1-20").await.len() != 21 {
                ask(&client, "_SEQ.AR.dead.7", "1-10").await;
            }
        };
        timeout(PATIENCE, all).await.unwrap();
        let end = ask(&client, "_SEQ.AR.dead.7", "1-10").await;
        assert_eq!((end.len(), status(&end[0])), (1, 404), "{}", binary.version);
        client.close().await;
        let statistics = serving.await.unwrap();
        assert_eq!(statistics.restarts, 2, "{statistics:?}");
    }
}

/// Whoever wants to see its counts cancels it again and again.
#[tokio::test]
async fn an_archive_that_is_cancelled_all_the_time_notices_that_its_consumer_is_gone() {
    for binary in servers("an archive cancelled") {
        let (server, _folder) = lossy(&binary);
        let client = patient(&server.url()).await;
        create_stream(&client, true).await;
        let mut archive = Archive::start(&client, ArchiveOptions::new("S"))
            .await
            .unwrap();
        publish_numbered(&client, 7, 1..=10).await;
        index(&mut archive, 10).await;
        let names = api(&client, "CONSUMER.NAMES.S", json!({})).await;
        for name in names["consumers"].as_array().unwrap() {
            let name = name.as_str().unwrap();
            api(&client, &format!("CONSUMER.DELETE.S.{name}"), json!({})).await;
        }
        publish_numbered(&client, 7, 11..=20).await;
        for _ in 0..4 {
            let _ = timeout(Duration::from_millis(10), archive.run()).await;
            pause();
            advance(Duration::from_secs(4)).await;
            resume();
        }
        // In the middle of what it does about it, too.
        for _ in 0..3 {
            tokio::select! {
                biased;
                () = archive.run() => {}
                () = yield_now() => {}
            }
        }
        index(&mut archive, 20).await;
        assert_eq!(archive.statistics().restarts, 2, "{}", binary.version);
        client.close().await;
    }
}

/// Direct get is answered by any replica, and may be answered by one that has not got yet what is stored.
#[tokio::test]
async fn what_a_replica_lacks_is_gone_when_the_leader_lacks_it_too() {
    let mut stream = FakeStream::start().await;
    let (mut archive, inbox) = stream.archive().await;
    stream.deliver(&inbox, &[1, 2, 3]).await;
    index(&mut archive, 3).await;
    let client = stream.client.clone();
    let serving = tokio::spawn(async move { archive.run().await });
    let asking = tokio::spawn(async move { ask(&client, "_SEQ.AR.dead.7", "1-3").await });
    for _ in 1..=3 {
        let request = stream.direct_get.next();
        let request = timeout(PATIENCE, request).await.unwrap().unwrap();
        let place = number(request.payload(), "seq");
        let mut headers = Headers::new();
        if place == 1 {
            headers.append("Seq", "dead.7.1").unwrap();
            headers.append("Nats-Subject", "d.y").unwrap();
        } else {
            headers = Headers::with_status(404, "Message Not Found").unwrap();
        }
        let to = to_of(&request);
        let answer = Publication::new(&to, "").unwrap();
        stream.client.send(answer.headers(&headers)).await.unwrap();
    }
    for _ in 2..=3 {
        let request = timeout(PATIENCE, stream.get.next()).await.unwrap().unwrap();
        let answer = match number(request.payload(), "seq") {
            2 => {
                json!({"error": {"code": 404, "err_code": 10_037, "description": "no message found"}})
            }
            _ => json!({"message": {"subject": "d.y", "seq": 3}}),
        };
        let to = to_of(&request);
        stream
            .client
            .publish(&to, answer.to_string())
            .await
            .unwrap();
    }
    let answers = asking.await.unwrap();
    let end = answers.last().unwrap();
    assert_eq!((answers.len(), status(end)), (2, 204));
    assert_eq!(end.headers().unwrap().first("Seq-Gone"), Some(&b"2"[..]));
    serving.abort();
}

/// What comes behind a hole is not taken: otherwise it would be asked for behind it.
#[tokio::test]
async fn what_was_not_delivered_to_an_archive_is_asked_for_again() {
    for (delivered, first_missing) in [(&[1, 3, 4][..], 2), (&[2, 3][..], 1)] {
        let mut stream = FakeStream::start().await;
        let (mut archive, inbox) = stream.archive().await;
        stream.deliver(&inbox, delivered).await;
        let running = tokio::spawn(async move { archive.run().await });
        let info = timeout(PATIENCE, stream.info.next())
            .await
            .unwrap()
            .unwrap();
        stream.answer_info(&to_of(&info)).await;
        let created = timeout(PATIENCE, stream.create.next())
            .await
            .unwrap()
            .unwrap();
        let config = &serde_json::from_slice::<Value>(created.payload()).unwrap()["config"];
        assert_eq!(config["opt_start_seq"], first_missing, "{delivered:?}");
        running.abort();
    }
}

/// Answers for a stream what each test wants.
struct FakeStream {
    _broker: Broker,
    client: Client,
    /// The archive's.
    archiving: Client,
    info: Subscription,
    create: Subscription,
    direct_get: Subscription,
    get: Subscription,
}

impl FakeStream {
    async fn start() -> Self {
        let broker = Broker::listen("127.0.0.1:0", BrokerOptions::default());
        let broker = broker.await.unwrap();
        let address = broker.local_addr().unwrap();
        let client = patient(&address.to_string()).await;
        let archiving = patient(&acknowledged(address).await.to_string()).await;
        let hear = |subject: &str| client.subscribe(&format!("$JS.API.{subject}")).unwrap();
        let (info, create) = (hear("STREAM.INFO.S"), hear("CONSUMER.CREATE.S"));
        let (direct_get, get) = (hear("DIRECT.GET.S"), hear("STREAM.MSG.GET.S"));
        Self {
            _broker: broker,
            client,
            archiving,
            info,
            create,
            direct_get,
            get,
        }
    }

    /// An archive of it, and where it wants deliveries.
    async fn archive(&mut self) -> (Archive, String) {
        let client = self.archiving.clone();
        let starting =
            tokio::spawn(async move { Archive::start(&client, ArchiveOptions::new("S")).await });
        let info = timeout(PATIENCE, self.info.next()).await.unwrap().unwrap();
        self.answer_info(&to_of(&info)).await;
        let created = timeout(PATIENCE, self.create.next())
            .await
            .unwrap()
            .unwrap();
        let config: Value = serde_json::from_slice(created.payload()).unwrap();
        let to = to_of(&created);
        self.client.publish(&to, "{}").await.unwrap();
        let inbox = config["config"]["deliver_subject"].as_str().unwrap();
        (starting.await.unwrap().unwrap(), inbox.to_owned())
    }

    async fn answer_info(&self, to: &str) {
        let info = json!({
            "created": "2026-01-01T00:00:00Z",
            "config": {"allow_direct": true},
            "state": {"last_seq": 10},
        });
        self.client.publish(to, info.to_string()).await.unwrap();
    }

    /// Numbers at the places of the same number, by deliveries of the same number, all at once.
    async fn deliver(&self, inbox: &str, numbers: &[u64]) {
        for number in numbers {
            let mut headers = Headers::new();
            headers.append("Seq", format!("dead.7.{number}")).unwrap();
            let ack = format!("$JX.ACK.S.c.1.{number}.{number}.1763683200000000000.0");
            let delivery = Publication::new(inbox, "").unwrap().headers(&headers);
            self.client
                .send(delivery.reply(&ack).unwrap())
                .await
                .unwrap();
        }
        self.client.flush().await.unwrap();
    }
}

/// A way to a server on which replies to `$JX.ACK` become such to `$JS.ACK`: only servers may write those.
async fn acknowledged(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (near, _) = listener.accept().await.unwrap();
        let far = TcpStream::connect(server).await.unwrap();
        let ((mut read, mut write), (from, mut to)) = (near.into_split(), far.into_split());
        tokio::spawn(async move { tokio::io::copy(&mut read, &mut to).await });
        let mut lines = BufReader::new(from);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).await.unwrap() > 0 {
            if let Some(at) = line.windows(7).position(|some| some == b"$JX.ACK") {
                line[at + 2] = b'S';
            }
            write.write_all(&line).await.unwrap();
            line.clear();
        }
    });
    address
}

fn to_of(request: &Message) -> String {
    String::from_utf8(request.reply().unwrap().to_vec()).unwrap()
}

fn number(object: &[u8], field: &str) -> u64 {
    let object: Value = serde_json::from_slice(object).unwrap();
    object[field].as_u64().unwrap()
}

/// Time is moved on here: answers may seem to take long.
async fn patient(url: &str) -> Client {
    let options = ConnectOptions::new().request_timeout(Duration::from_secs(60));
    options.connect(url).await.unwrap()
}

/// Serves until so many messages are indexed.
async fn index(archive: &mut Archive, indexed: u64) {
    let all = async {
        while archive.statistics().indexed < indexed {
            let _ = timeout(Duration::from_millis(10), archive.run()).await;
        }
    };
    timeout(PATIENCE, all).await.unwrap();
}

async fn publish_numbered(client: &Client, epoch: u64, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let mut headers = Headers::new();
        headers
            .append("Seq", format!("dead.{epoch}.{number}"))
            .unwrap();
        let publication = Publication::new("d.y", "").unwrap();
        client.send(publication.headers(&headers)).await.unwrap();
    }
    client.flush().await.unwrap();
}

async fn api(client: &Client, request: &str, body: Value) -> Value {
    let subject = format!("$JS.API.{request}");
    let answer = client.request(&subject, body.to_string()).await.unwrap();
    let answer: Value = serde_json::from_slice(answer.payload()).unwrap();
    assert!(answer["error"].is_null(), "{answer}");
    answer
}
