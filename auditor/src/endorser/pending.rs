//! Exchanges that wait for an answer: in memory, few, and not for long.

use std::{collections::HashMap, time::Duration};

use glassbloom_service::random;
use glassbloom_spec::{evidence::tpm::Asked, hash::Hash, id::UnixMillis};

/// How long an answer is waited for.
pub const LIFETIME: Duration = Duration::from_secs(120);
/// Most exchanges that wait at once.
pub const MAX_PENDING: usize = 1024;
/// Most that wait for one TPM: its certificates are public, so anyone can begin an exchange in its name.
pub const MAX_PENDING_EACH: usize = 8;

/// One challenge that was sent.
pub(super) struct Exchange {
    pub(super) asked: Asked,
    pub(super) nonce: Hash,
    pub(super) device: Hash,
    pub(super) begun: UnixMillis,
}

impl Exchange {
    /// Whether its time is up. A clock that went back says nothing about how long it was, so that counts as well.
    pub(super) fn is_over(&self, now: UnixMillis) -> bool {
        now < self.begun || self.left(now).is_zero()
    }

    fn left(&self, now: UnixMillis) -> Duration {
        LIFETIME.saturating_sub(Duration::from_millis(now.get().saturating_sub(self.begun.get())))
    }
}

/// All of them, by id.
#[derive(Default)]
pub(super) struct Pending(HashMap<String, Exchange>);

impl Pending {
    /// Keeps an exchange and names it, or says when there will be room.
    pub(super) fn begin(&mut self, exchange: Exchange, now: UnixMillis) -> Result<String, Duration> {
        let of_device = |other: &&Exchange| other.device == exchange.device && !other.is_over(now);
        if self.0.len() >= MAX_PENDING || self.0.values().filter(of_device).count() >= MAX_PENDING_EACH {
            // What is over stays until the room is needed, so that a late answer is told that it is late.
            self.0.retain(|_, other| !other.is_over(now));
            let each = self.0.values().filter(|other| other.device == exchange.device);
            let wait = if self.0.len() >= MAX_PENDING {
                self.0.values().map(|other| other.left(now)).min()
            } else if each.clone().count() >= MAX_PENDING_EACH {
                each.map(|other| other.left(now)).min()
            } else {
                None
            };
            if let Some(wait) = wait {
                return Err(wait);
            }
        }
        let id = hex::encode(random::<16>());
        self.0.insert(id.clone(), exchange);
        Ok(id)
    }

    /// Takes the exchange out: there is one answer to each.
    pub(super) fn end(&mut self, id: &str) -> Option<Exchange> {
        self.0.remove(id)
    }
}
