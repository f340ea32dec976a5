//! What rules about several entries remember of those before.

use super::{
    Broken, Registered, challenge_batch::Epochs, discontinuity, release_equivocation::Versions,
    replayed_evidence::Seen, shared_device, shared_key,
};
use crate::replay::Providers;

/// What came before, as far as rules about several entries need it. It takes every entry, in order, also those that
/// were judged in an earlier run.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    providers: Providers,
    seen: Seen,
    versions: Versions,
    epochs: Epochs,
}

impl Memory {
    /// Nothing came before.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next entry and says which of these rules it breaks.
    pub fn push(&mut self, context: Registered<'_>) -> Vec<Broken> {
        let Registered { registry, policy, entry } = context;
        let mut broken = Vec::new();
        if let Some(attested) = self.providers.push(registry, policy, entry) {
            for (rule, check) in [
                (&discontinuity::RULE, discontinuity::check as fn(&_) -> _),
                (&shared_device::RULE, shared_device::check),
                (&shared_key::RULE, shared_key::check),
            ] {
                broken.extend(check(attested).err().map(|detail: String| (rule, detail)));
            }
            let seen = self.seen.push(entry, &self.providers);
            broken.extend(seen.err().map(|detail| (&super::REPLAYED_EVIDENCE, detail)));
        }
        broken.extend(self.versions.push(entry).err().map(|detail| (&super::RELEASE_EQUIVOCATION, detail)));
        broken.extend(self.epochs.push(context));
        broken
    }
}
