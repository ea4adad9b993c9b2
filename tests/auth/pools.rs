//! Several servers: credentials belong to a URL, and to the servers that were discovered through it.

use natseq::session::Event;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::rig::{connected, is_connected, prove, quick, until};
use crate::support::{RealServer, servers};

#[tokio::test]
async fn each_server_gets_the_credentials_of_its_url() {
    for binary in servers("credentials by URL") {
        let mut first = RealServer::start(&binary, "authorization { user: a, password: p }");
        let mut second = RealServer::start(&binary, "authorization { token: t }");
        let urls = format!("{},{}", first.url_as("a:p"), second.url_as("t"));
        // What the options say is for servers whose URL says nothing.
        let client = connected(quick().token("wrong"), &urls).await;
        let mut events = client.events();
        let info = client.server_info();
        if u64::try_from(info.port).unwrap() == u64::from(first.address().port()) {
            first.kill();
        } else {
            second.kill();
        }
        until(&mut events, |event| is_connected(event, 2)).await;
        prove(&client).await;
    }
}

#[tokio::test]
async fn a_discovered_server_gets_the_credentials_of_the_one_that_announced_it() {
    for binary in servers("credentials of a discovered server") {
        let server = RealServer::start(&binary, "authorization { user: a, password: p }");
        let announcer = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://a:p@{}", announcer.local_addr().unwrap());
        let address = server.address();
        let speech = async move {
            let (mut stream, _) = announcer.accept().await.unwrap();
            let info = format!(
                "INFO {{\"proto\":1,\"headers\":true,\"connect_urls\":[\"{address}\"]}}\r\n"
            );
            stream.write_all(info.as_bytes()).await.unwrap();
            let mut lines = BufReader::new(&mut stream).lines();
            let connect = lines.next_line().await.unwrap().unwrap();
            assert!(connect.contains(r#""pass":"p""#), "{connect}");
            lines.next_line().await.unwrap();
            stream.write_all(b"PONG\r\n").await.unwrap();
        };
        let options = quick().retry_first_connect(true);
        let client = options.connect(&url).await.unwrap();
        let mut events = client.events();
        speech.await;
        let seen = until(&mut events, |event| is_connected(event, 2)).await;
        assert!(
            !seen
                .iter()
                .any(|event| matches!(event, Event::DialFailed { reason, .. } if reason.is_auth())),
            "{seen:?}"
        );
        assert!(client.server_info().auth_required);
        prove(&client).await;
    }
}
