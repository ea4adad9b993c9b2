//! What a client under test can do; each workload is written once over it.

use std::future::Future;

use bytes::Bytes;

use crate::spec::Spec;

/// A client under test.
pub(crate) trait Client: Clone + Send + Sync + 'static {
    /// An outgoing message, made once and sent often, passed as this client's API likes it best.
    type Message: Send + Sync + 'static;
    type Subscription: Send + 'static;
    /// What receiving wants to keep between two calls, whichever subscription they are for.
    type Scratch: Default + Send;

    fn connect(spec: &Spec) -> impl Future<Output = Self> + Send;

    fn message(&self, subject: &'static str, payload: Bytes, has_headers: bool) -> Self::Message;

    fn publish(&self, message: &Self::Message) -> impl Future<Output = ()> + Send;

    /// Asks and waits for the answer.
    fn request(&self, message: &Self::Message) -> impl Future<Output = ()> + Send;

    fn subscribe(&self, filter: String) -> impl Future<Output = Self::Subscription> + Send;

    /// Waits for at least one message and returns how many it took. Of a message with headers one
    /// is looked up.
    fn receive(
        subscription: &mut Self::Subscription,
        scratch: &mut Self::Scratch,
    ) -> impl Future<Output = u64> + Send;
}
