//! One contender in one workload per process, and the peers that it talks to.
//!
//! ```text
//! natseq-peers null-server                  prints its port
//! natseq-peers feed URL                     feeds and answers through a real server
//! natseq-peers drive CLIENT WORKLOAD URL [bytes=16] [headers=1] [messages=100000] ...
//! ```
//!
//! `drive` prints one JSON object. `run` beside this package starts all of it.

mod async_nats_client;
mod client;
mod feed;
mod meter;
mod natseq_client;
mod open_loop;
mod raw;
mod scale;
mod sequenced_client;
mod spec;
mod stand_in;
mod watermelon_client;
mod workloads;

use std::net::TcpListener;

use client::Client;
use meter::Report;
use spec::{Spec, Workload};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["null-server"] => serve(),
        ["feed", url] => {
            // The server ends it.
            let _ = stand_in::through_server(raw::connect(url));
        }
        ["drive", client, workload, url, settings @ ..] => {
            let spec = Spec::new(client, workload, url, settings);
            println!("{}", drive(client, &spec).json(&spec));
        }
        _ => panic!("null-server, feed URL, or drive CLIENT WORKLOAD URL [key=value]"),
    }
}

fn drive(client: &str, spec: &Spec) -> Report {
    match client {
        "raw" => raw::run(spec),
        "natseq" => run::<natseq_client::Natseq<true>>(spec),
        "natseq-sequenced" => run::<sequenced_client::Sequenced>(spec),
        "natseq-next" => run::<natseq_client::Natseq<false>>(spec),
        "async-nats" => run::<async_nats_client::AsyncNats>(spec),
        "watermelon" => run::<watermelon_client::Watermelon>(spec),
        other => panic!("no client {other}"),
    }
}

fn run<C: Client>(spec: &Spec) -> Report {
    let runtime = match spec.threads {
        1 => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build(),
        threads => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build(),
    };
    let runtime = runtime.expect("a runtime");
    let report = match spec.workload {
        Workload::Publish => runtime.block_on(workloads::publish::<C>(spec)),
        Workload::Subscribe => runtime.block_on(workloads::subscribe::<C>(spec)),
        Workload::Request => runtime.block_on(workloads::request::<C>(spec)),
        Workload::Parallel => runtime.block_on(workloads::parallel::<C>(spec)),
        Workload::OpenLoop => open_loop::run::<C>(spec, &runtime),
        Workload::IdleSubscriptions => runtime.block_on(scale::idle_subscriptions::<C>(spec)),
        Workload::IdleConnections => runtime.block_on(scale::idle_connections::<C>(spec)),
    };
    // What still waits on the connection is nobody's any more.
    runtime.shutdown_background();
    report
}

/// Accepts connections until it is killed.
fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    println!("{}", listener.local_addr().expect("its address").port());
    for stream in listener.incoming() {
        let stream = stream.expect("a connection");
        // Ten thousand of them fit.
        let thread = std::thread::Builder::new().stack_size(64 << 10);
        let conversation = thread.spawn(move || {
            // The client leaves when it has seen enough.
            let _ = stand_in::as_server(stream);
        });
        conversation.expect("a thread");
    }
}
