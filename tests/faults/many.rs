//! Calls that are cancelled, connects that fail, connections that go half-open: some hundred times each. The soaks do
//! the same to the full number.

use std::time::Duration;

use crate::rig::{SEED, VERSION};
use crate::scenarios::{Held, Refusing, cancellations, half_open_kills};
use crate::support::{RealServer, server};

#[tokio::test]
async fn a_cancelled_call_takes_nothing_from_the_others() {
    let Some(binary) = server("cancellations", VERSION) else {
        return;
    };
    let server = RealServer::start(&binary, "");
    let done = cancellations(&server, 2_000, SEED).await;
    assert!(done.cancelled >= 2_000 && done.answered > 100, "{done:?}");
    assert_eq!(done.wrong, 0, "{done:?}");
}

#[tokio::test]
async fn failed_connects_leave_no_task() {
    let Some(binary) = server("failed connects", VERSION) else {
        return;
    };
    let servers = Refusing::start(&binary);
    servers.connects(5, SEED).await;
    let before = Held::now();
    servers.connects(50, SEED).await;
    let after = Held::settled(before).await;
    assert!(after.tasks <= before.tasks, "{before:?} {after:?}");
}

/// Confirmed, in doubt or failed: there is no fourth.
#[tokio::test]
async fn every_message_of_a_half_open_connection_is_accounted_for() {
    let Some(binary) = server("half-open kills", VERSION) else {
        return;
    };
    let server = RealServer::start(&binary, "");
    let accounts = half_open_kills(&server, 20, Duration::from_millis(100), SEED).await;
    assert_eq!(
        (accounts.unreported, accounts.twice),
        (0, 0),
        "{accounts:?}"
    );
    assert!(accounts.lost > 0 && accounts.confirmed > 0, "{accounts:?}");
}
