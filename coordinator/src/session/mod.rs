//! Providers that are connected, and the requests they are answering.
//!
//! # Ownership
//! One task owns a provider's socket (`socket`). Everybody else has a [`Live`]: they put messages into its outbox and
//! get the answers through the [`Exchange`] that [`Live::start`] hands out.

pub(crate) mod admit;
pub(crate) mod socket;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;
use glassbloom_spec::{
    curve::PublicKey,
    hash::Hash,
    id::{KeyId, UnixMillis, UnixSeconds},
    receipt::SealedBy,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{error::ApiError, liveness::is_suspended, logs::Appended};

/// Whose request it is, for the books.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) account: i64,
    pub(crate) model: String,
    pub(crate) request_id: String,
    pub(crate) sealed_by: SealedBy,
    pub(crate) started: UnixMillis,
}

/// What happens to a request while it is answered.
#[derive(Debug)]
pub(crate) enum Event {
    /// The answer is over: the receipt's proof, or why there is none.
    Ended(Result<Appended, ApiError>),
    /// Sealed bytes of the answer.
    Sealed(Bytes),
}

/// A message for the provider.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outgoing {
    Cancel(u64),
    /// Epoch and beacon.
    Challenge(UnixSeconds, Vec<u8>),
    Notice(Notice),
    Request(u64, Bytes),
}

/// Words for a provider's operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// What admission found out about a provider.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    pub(crate) attestation: Hash,
    pub(crate) signing_key: PublicKey,
    pub(crate) key_id: KeyId,
    pub(crate) not_after: UnixSeconds,
    pub(crate) capacity: u32,
    pub(crate) models: BTreeSet<String>,
    /// What the operator calls it.
    pub(crate) name: String,
}

/// A provider that is connected and may serve.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) admitted: Admitted,
    /// Unbounded, and yet bounded: by the capacity, two messages per request, and two per epoch.
    outbox: mpsc::UnboundedSender<Outgoing>,
    exchanges: Mutex<Exchanges>,
    /// How many requests are waited for.
    active: watch::Sender<usize>,
    /// Challenges missed in a row.
    missed: AtomicU32,
    close: CancellationToken,
    why: Mutex<&'static str>,
}

#[derive(Debug, Default)]
struct Exchanges {
    next: u64,
    ended: bool,
    open: HashMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    order: Order,
    /// `None` once nobody waits any more. The entry stays: the provider may still send a receipt for what it did.
    events: Option<mpsc::Sender<Event>>,
}

impl Exchanges {
    fn active(&self) -> usize {
        self.open.values().filter(|open| open.events.is_some()).count()
    }
}

impl Live {
    pub(crate) fn new(admitted: Admitted) -> (Arc<Self>, mpsc::UnboundedReceiver<Outgoing>) {
        let (outbox, messages) = mpsc::unbounded_channel();
        let live = Self {
            admitted,
            outbox,
            exchanges: Mutex::default(),
            active: watch::Sender::new(0),
            missed: AtomicU32::new(0),
            close: CancellationToken::new(),
            why: Mutex::new(""),
        };
        (Arc::new(live), messages)
    }

    /// Sends a sealed request to the provider.
    pub(crate) fn start(self: &Arc<Self>, order: Order, sealed: Bytes) -> Result<Exchange, ApiError> {
        let mut exchanges = self.exchanges();
        // A session that is about to end takes nothing more: its key may be revoked.
        if exchanges.ended || self.is_closed() {
            return Err(ApiError::ProviderGone);
        }
        if exchanges.active() >= self.admitted.capacity as usize {
            return Err(ApiError::Overloaded);
        }
        let id = exchanges.next;
        exchanges.next += 1;
        let (events, receiver) = mpsc::channel(BUFFERED_EVENTS);
        // Forgotten requests that the provider never answers must not pile up.
        if exchanges.open.len() >= MAX_FORGOTTEN {
            exchanges.open.retain(|_, open| open.events.is_some());
        }
        exchanges.open.insert(id, Open { order, events: Some(events) });
        // Sent under the lock, so that `end` comes before or after and never between.
        let sent = self.outbox.send(Outgoing::Request(id, sealed));
        self.active.send_replace(exchanges.active());
        drop(exchanges);
        let exchange = Exchange { id, live: Arc::clone(self), events: receiver, over: false };
        sent.map(|()| exchange).map_err(|_| ApiError::ProviderGone)
    }

    /// Share of the capacity in use, in thousandths.
    pub(crate) fn load(&self) -> u64 {
        self.active() as u64 * 1000 / u64::from(self.admitted.capacity.max(1))
    }

    /// Requests that somebody waits for.
    pub(crate) fn active(&self) -> usize {
        *self.active.borrow()
    }

    /// Waits until nobody waits for a request.
    pub(crate) async fn idle(&self) {
        // Never an error: `self` holds the sender.
        let _ = self.active.subscribe().wait_for(|active| *active == 0).await;
    }

    /// Ends the session.
    pub(crate) fn close(&self, why: &'static str) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = why;
        self.close.cancel();
    }

    /// Whether the session is to end.
    pub(crate) fn is_closed(&self) -> bool {
        self.close.is_cancelled()
    }

    /// Asks the provider for a sign of life.
    pub(crate) fn challenge(&self, epoch: UnixSeconds, beacon: Vec<u8>) {
        // Fails only when the session is over, and then there is nobody to ask.
        let _ = self.outbox.send(Outgoing::Challenge(epoch, beacon));
    }

    /// Tells the provider's operator something.
    pub(crate) fn notice(&self, notice: Notice) {
        let _ = self.outbox.send(Outgoing::Notice(notice));
    }

    /// Notes a challenge that was missed; returns how many were in a row.
    pub(crate) fn missed(&self) -> u32 {
        self.missed.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Notes a challenge that was answered; returns how many were missed before.
    pub(crate) fn answered(&self) -> u32 {
        self.missed.swap(0, Ordering::SeqCst)
    }

    /// Whether it gets requests: not when it missed too many challenges.
    pub(crate) fn is_suspended(&self) -> bool {
        is_suspended(self.missed.load(Ordering::SeqCst))
    }

    /// Waits until the session is to end; says why.
    pub(crate) async fn closed(&self) -> &'static str {
        self.close.cancelled().await;
        *self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sealed bytes came in. A client that reads too slowly loses its answer rather than hold up the others'.
    fn deliver(&self, id: u64, bytes: Bytes) {
        let mut exchanges = self.exchanges();
        let Some(events) = exchanges.open.get_mut(&id).and_then(|open| open.events.as_ref()) else { return };
        if events.try_send(Event::Sealed(bytes)).is_err() {
            self.forget(&mut exchanges, id);
        }
    }

    /// The provider does not answer a request, or not to the end.
    fn fail(&self, id: u64, code: String, message: String) {
        if let Some((_, events)) = self.finish(id) {
            let error = match code.as_str() {
                "overloaded" => ApiError::Overloaded,
                _ => ApiError::Provider { code, message },
            };
            // A full channel drops the sender instead, which says that the answer was cut.
            let _ = events.map(|events| events.try_send(Event::Ended(Err(error))));
        }
    }

    /// Takes a request out of the table, with who waits for it.
    fn finish(&self, id: u64) -> Option<(Order, Option<mpsc::Sender<Event>>)> {
        let mut exchanges = self.exchanges();
        let Open { order, events } = exchanges.open.remove(&id)?;
        self.active.send_replace(exchanges.active());
        Some((order, events))
    }

    /// Nobody waits any more: tells the provider.
    fn cancel(&self, id: u64) {
        self.forget(&mut self.exchanges(), id);
    }

    fn forget(&self, exchanges: &mut Exchanges, id: u64) {
        if let Some(open) = exchanges.open.get_mut(&id)
            && open.events.take().is_some()
        {
            // Fails only when the session is over, and then there is nobody to tell.
            let _ = self.outbox.send(Outgoing::Cancel(id));
            self.active.send_replace(exchanges.active());
        }
    }

    /// The socket is gone: everybody who waits learns it.
    fn end(&self) {
        let mut exchanges = self.exchanges();
        exchanges.ended = true;
        exchanges.open.clear();
        self.active.send_replace(0);
    }

    fn exchanges(&self) -> MutexGuard<'_, Exchanges> {
        self.exchanges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request under way, for whoever waits for it. Dropping it cancels the request.
#[derive(Debug)]
pub(crate) struct Exchange {
    id: u64,
    live: Arc<Live>,
    events: mpsc::Receiver<Event>,
    over: bool,
}

impl Exchange {
    /// What happens next; after [`Event::Ended`] nothing does.
    pub(crate) async fn next(&mut self) -> Event {
        let event = match self.events.recv().await {
            Some(event) => event,
            None if self.live.exchanges().ended => Event::Ended(Err(ApiError::ProviderGone)),
            None => Event::Ended(Err(ApiError::Provider {
                code: "client_too_slow".to_owned(),
                message: "the answer was read too slowly, and was cut".to_owned(),
            })),
        };
        self.over = matches!(event, Event::Ended(_));
        event
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.over {
            self.live.cancel(self.id);
        }
    }
}

/// The providers that are connected, by the leaf hash of their attestations.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    live: Mutex<HashMap<Hash, Arc<Live>>>,
    /// When each provider last had new attestations logged, by the name of its token.
    attested: Mutex<HashMap<String, VecDeque<UnixSeconds>>>,
}

impl Sessions {
    /// Adds a provider; an older session with the same signing key ends.
    pub(crate) fn add(&self, live: &Arc<Live>) {
        let mut table = self.table();
        table.retain(|_, older| {
            let same = older.admitted.key_id == live.admitted.key_id;
            if same {
                older.close("a newer session with the same key took over");
            }
            !same
        });
        table.insert(live.admitted.attestation, Arc::clone(live));
    }

    /// Removes a provider unless another session took its place.
    pub(crate) fn remove(&self, live: &Arc<Live>) {
        let mut table = self.table();
        if table.get(&live.admitted.attestation).is_some_and(|found| Arc::ptr_eq(found, live)) {
            table.remove(&live.admitted.attestation);
        }
    }

    /// The provider with this attestation.
    pub(crate) fn find(&self, attestation: &Hash) -> Option<Arc<Live>> {
        self.table().get(attestation).cloned()
    }

    /// Everybody who is connected.
    pub(crate) fn all(&self) -> Vec<Arc<Live>> {
        self.table().values().cloned().collect()
    }

    /// Who serves a model, least loaded first; equals in an order that depends on nothing a provider chose lately.
    pub(crate) fn serving(&self, model: &str, now: UnixSeconds) -> Vec<Arc<Live>> {
        let mut serving = self.all();
        serving.retain(|live| {
            live.admitted.models.contains(model)
                && live.admitted.not_after > now
                && !live.is_suspended()
                && !live.is_closed()
        });
        serving.sort_by_key(|live| (live.load(), live.admitted.attestation));
        serving
    }

    /// The models that can be asked for.
    pub(crate) fn models(&self) -> BTreeSet<String> {
        self.all()
            .iter()
            .filter(|live| !live.is_suspended())
            .flat_map(|live| live.admitted.models.iter().cloned())
            .collect()
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Hash, Arc<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another attestation of this provider goes into the registry, which keeps it for ever.
    pub(crate) fn may_attest(&self, name: &str, now: UnixSeconds) -> Result<(), String> {
        let mut attested = self.attested.lock().unwrap_or_else(PoisonError::into_inner);
        let times = attested.entry(name.to_owned()).or_default();
        times.retain(|time| time.get().saturating_add(ATTESTED_WITHIN) > now.get());
        if times.len() >= MAX_ATTESTED {
            return Err(format!(
                "this provider had {MAX_ATTESTED} attestations logged within an hour, and no more are until they are older; \
                 mend what the earlier refusals named"
            ));
        }
        times.push_back(now);
        Ok(())
    }
}

/// New attestations of one provider within [`ATTESTED_WITHIN`]: one a minute, as its longest wait between attempts is.
const MAX_ATTESTED: usize = 60;
/// In seconds.
const ATTESTED_WITHIN: u64 = 3_600;

/// Pieces of an answer that may wait for a slow reader.
const BUFFERED_EVENTS: usize = 1024;
/// Requests that may wait for a late receipt.
const MAX_FORGOTTEN: usize = 4096;

#[cfg(test)]
mod tests {
    use glassbloom_spec::{curve::SigningKey, statement::key_id};

    use super::*;

    fn live(seed: u8, attestation: &[u8], capacity: u32) -> (Arc<Live>, mpsc::UnboundedReceiver<Outgoing>) {
        let signing_key = SigningKey::from_seed(&[seed; 32]).public_key();
        Live::new(Admitted {
            attestation: Hash::of(attestation),
            signing_key,
            key_id: key_id(&signing_key),
            not_after: UnixSeconds::new(100),
            capacity,
            models: BTreeSet::from(["m".to_owned()]),
            name: "p".to_owned(),
        })
    }

    fn order() -> Order {
        Order {
            account: 1,
            model: "m".to_owned(),
            request_id: "r".to_owned(),
            sealed_by: SealedBy::User,
            started: UnixMillis::new(0),
        }
    }

    fn start(live: &Arc<Live>) -> Result<Exchange, ApiError> {
        live.start(order(), Bytes::from_static(b"sealed"))
    }

    #[tokio::test]
    async fn bytes_and_the_end_reach_the_one_who_waits() {
        let (live, mut sent) = live(1, b"a", 2);
        let mut exchange = start(&live).unwrap();
        assert_eq!(sent.recv().await.unwrap(), Outgoing::Request(0, Bytes::from_static(b"sealed")));
        live.deliver(0, Bytes::from_static(b"x"));
        live.deliver(9, Bytes::from_static(b"for nobody"));
        assert!(matches!(exchange.next().await, Event::Sealed(bytes) if bytes == b"x"[..]));
        live.fail(0, "broken".to_owned(), "it broke".to_owned());
        assert!(matches!(exchange.next().await, Event::Ended(Err(error)) if error.code() == "broken"));
        drop(exchange);
        assert!(sent.try_recv().is_err(), "what is over is not cancelled");
    }

    #[tokio::test]
    async fn dropping_cancels_and_frees_capacity() {
        let (live, mut sent) = live(1, b"a", 1);
        let exchange = start(&live).unwrap();
        assert_eq!(start(&live).unwrap_err(), ApiError::Overloaded);
        assert_eq!(live.load(), 1000);
        drop(exchange);
        assert!(matches!(sent.recv().await.unwrap(), Outgoing::Request(0, _)));
        assert_eq!(sent.recv().await.unwrap(), Outgoing::Cancel(0));
        live.idle().await;
        let second = start(&live).unwrap();
        assert_eq!(second.id, 1);
        let (order, waits) = live.finish(0).unwrap();
        assert_eq!(order.account, 1, "a late receipt still finds its order");
        assert!(waits.is_none());
    }

    #[tokio::test]
    async fn a_lost_session_is_told_to_everybody() {
        let (live, _sent) = live(1, b"a", 2);
        let mut exchange = start(&live).unwrap();
        live.end();
        assert!(matches!(exchange.next().await, Event::Ended(Err(ApiError::ProviderGone))));
        assert_eq!(start(&live).unwrap_err(), ApiError::ProviderGone);
    }

    #[tokio::test]
    async fn a_slow_reader_loses_its_answer_and_nobody_elses() {
        let (live, mut sent) = live(1, b"a", 2);
        let (mut slow, mut quick) = (start(&live).unwrap(), start(&live).unwrap());
        for _ in 0..=BUFFERED_EVENTS {
            live.deliver(0, Bytes::from_static(b"x"));
        }
        live.deliver(1, Bytes::from_static(b"y"));
        assert!(matches!(quick.next().await, Event::Sealed(_)));
        let error = loop {
            if let Event::Ended(end) = slow.next().await {
                break end.unwrap_err();
            }
        };
        assert_eq!(error.code(), "client_too_slow");
        let cancelled =
            std::iter::from_fn(|| sent.try_recv().ok()).any(|message| message == Outgoing::Cancel(0));
        assert!(cancelled);
    }

    #[tokio::test]
    async fn a_newer_session_of_the_same_key_evicts_the_older() {
        let sessions = Sessions::default();
        let ((one, _a), (two, _b), (other, _c)) = (live(1, b"a", 1), live(1, b"b", 1), live(2, b"c", 1));
        sessions.add(&one);
        sessions.add(&other);
        sessions.add(&two);
        assert!(one.closed().await.contains("newer"));
        assert!(sessions.find(&Hash::of(b"a")).is_none());
        sessions.remove(&one);
        assert_eq!(sessions.all().len(), 2);
        // The same attestation again, as after a reconnect: the old task must not remove the new session.
        let (again, _d) = live(1, b"b", 1);
        sessions.add(&again);
        sessions.remove(&two);
        assert!(sessions.find(&Hash::of(b"b")).is_some());
    }

    #[tokio::test]
    async fn the_least_loaded_comes_first_and_the_expired_not_at_all() {
        let sessions = Sessions::default();
        let ((one, _a), (two, _b)) = (live(1, b"a", 2), live(2, b"b", 2));
        sessions.add(&one);
        sessions.add(&two);
        let busy = sessions.serving("m", UnixSeconds::new(1))[0].clone();
        let _held = start(&busy).unwrap();
        let first = sessions.serving("m", UnixSeconds::new(1))[0].clone();
        assert!(!Arc::ptr_eq(&busy, &first));
        assert!(sessions.serving("other", UnixSeconds::new(1)).is_empty());
        assert!(sessions.serving("m", UnixSeconds::new(100)).is_empty());
        for _ in 0..3 {
            assert_eq!(sessions.serving("m", UnixSeconds::new(1)).len(), 2);
            one.missed();
        }
        assert_eq!(sessions.serving("m", UnixSeconds::new(1)).len(), 1, "suspended");
        assert_eq!(one.answered(), 3);
        assert_eq!(sessions.serving("m", UnixSeconds::new(1)).len(), 2);
    }

    #[test]
    fn nobody_fills_the_registry_with_attestations() {
        let sessions = Sessions::default();
        let may = |name: &str, now: u64| sessions.may_attest(name, now.into()).is_ok();
        assert!((0..60).all(|_| may("a", 1_000)));
        assert!(!may("a", 4_599) && may("b", 4_599) && may("a", 4_600));
    }
}
