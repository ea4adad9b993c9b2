//! Claiming a name on a connection: asking who holds it, and taking it or leaving it.

use crate::client::error::{Error, ErrorKind};
use crate::client::inbox;
use crate::client::publication::Publication;
use crate::client::requests::is_no_responders;
use crate::client::{Client, Subscription};
use crate::sequence::{Claim, ClaimOutcome, NameNotice, NamePolicy, NoticeKind, Prior};
use crate::subject::Subject;
use crate::wire::Message;

/// A name that is held.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) epoch: u64,
    /// The run that gave way, if one did.
    pub(super) prior: Option<Prior>,
    pub(super) hold: Hold,
}

/// What it takes to keep it.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) nonce: u64,
    /// What is said about the name.
    pub(super) notices: Subscription,
}

/// Claims the name whose subject this is, for a run with this epoch or a higher one.
pub(super) async fn claim(
    client: &Client,
    subject: &Subject,
    policy: NamePolicy,
    epoch: u64,
) -> Result<Held, Error> {
    let shared = client.shared();
    let inbox = client.new_inbox()?;
    let mut answers = client.subscription(&inbox).subscribe_untold()?;
    let nonce = inbox::random_seed()?;
    let mut claim = Claim::new(policy, epoch, nonce, shared.clock.now());
    let mut notices = None;
    loop {
        while let Some(notice) = claim.poll_notice() {
            if notice.kind == NoticeKind::Claim && notices.is_none() {
                notices = Some(listen(client, subject).confirmed().await?);
            }
            let publication = Publication::new(subject, notice.to_json())?;
            client.send(publication.reply(&inbox)?).await?;
        }
        claim.handle_timeout(shared.clock.now());
        match (claim.outcome(), notices.take()) {
            (Some(ClaimOutcome::InUse { epoch }), _) => {
                return Err(Error::new(ErrorKind::NameInUse { epoch }));
            }
            (Some(ClaimOutcome::Held { epoch, prior }), Some(notices)) => {
                let hold = Hold { nonce, notices };
                return Ok(Held { epoch, prior, hold });
            }
            (Some(ClaimOutcome::Held { .. }) | None, listening) => notices = listening,
        }
        let due = shared
            .clock
            .instant(claim.poll_timeout().unwrap_or_default());
        tokio::select! {
            answer = answers.next() => match answer {
                Some(answer) if is_no_responders(&answer) => {
                    claim.handle_no_responders(shared.clock.now());
                }
                Some(answer) => hear(client, &mut claim, &answer),
                None => return Err(over(&answers)),
            },
            said = next_of(&mut notices) => match (said, &notices) {
                (Some(said), _) => hear(client, &mut claim, &said),
                (None, Some(notices)) => return Err(over(notices)),
                (None, None) => {}
            },
            () = tokio::time::sleep_until(due) => {}
        }
    }
}

/// Begins to hear what is said about a name, until the end of a drain.
pub(super) fn listen(client: &Client, subject: &Subject) -> crate::client::SubscriptionBuilder {
    client.subscription(subject.as_str()).drains_last()
}

/// The next message; for ever pending without a subscription.
pub(super) async fn next_of(subscription: &mut Option<Subscription>) -> Option<Message> {
    match subscription {
        Some(subscription) => subscription.next().await,
        None => std::future::pending().await,
    }
}

fn hear(client: &Client, claim: &mut Claim, message: &Message) {
    if let Some(notice) = NameNotice::parse(message.payload()) {
        claim.handle_notice(client.shared().clock.now(), &notice);
    }
}

fn over(subscription: &Subscription) -> Error {
    match subscription.refusal() {
        Some(refusal) => refusal.into(),
        None => Error::new(ErrorKind::Closed),
    }
}
