//! What happened under a device, a provider or a key.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
};

use glassbloom_spec::{
    hash::Hash,
    id::{KeyId, LeafIndex, TreeSize, UnixSeconds},
    identity::{Attested, Conflict, Identities, Link, ProviderId},
};
use serde::Serialize;

use crate::replay::{Entry, Leaf, Providers, Registry};

/// What an owner watches over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A machine, by the hash that its evidence names it with.
    Device(Hash),
    /// A signing key, and the provider that it belongs to.
    Key(KeyId),
    /// A provider.
    Provider(ProviderId),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(device) => write!(f, "device {device}"),
            Self::Key(key) => write!(f, "key {key}"),
            Self::Provider(provider) => write!(f, "provider {provider}"),
        }
    }
}

/// One thing that was logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// What it is.
    #[serde(flatten)]
    pub what: What,
    /// Where it is in the registry.
    pub index: LeafIndex,
    /// The provider.
    pub provider: ProviderId,
    /// The signing key.
    pub key: KeyId,
    /// Leaf hash of the attestation that it is about.
    pub attestation: Hash,
}

/// Kinds of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// Something that the owner did not do.
    Alert {
        /// What to look at.
        why: String,
    },
    /// An attestation by the chain's own key, or the first of a provider.
    Attestation(Claim),
    /// An attestation that claims a past it does not have.
    Discontinuity {
        /// Why it does not.
        why: String,
        /// What it claims.
        #[serde(flatten)]
        claim: Claim,
    },
    /// It did not answer the challenge of an epoch.
    Missing {
        /// When the epoch began.
        epoch: UnixSeconds,
        /// Why, as the coordinator says.
        reason: String,
    },
    /// The key is dead.
    Revocation {
        /// Receipts from this size on are void.
        from: TreeSize,
        /// As the revocation says.
        reason: String,
    },
    /// Another signing key, which the one before counter-signed.
    Rotation(Claim),
    /// A coordinator's judgement.
    Verdict {
        /// What it may serve as.
        tier: Option<String>,
        /// Reasons against.
        reasons: Vec<String>,
    },
}

/// What an attestation claims, as far as its evidence holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// How its keys are backed; `None` where the evidence does not hold.
    pub evidence: Option<&'static str>,
    /// The device that the evidence names.
    pub device: Option<Hash>,
    /// When its beacon was witnessed.
    pub witnessed: UnixSeconds,
    /// From then on the keys must not be used.
    pub not_after: UnixSeconds,
}

impl Event {
    /// Whether the owner should act.
    pub const fn is_alert(&self) -> bool {
        matches!(self.what, What::Alert { .. })
    }
}

/// What happened under the subject from an entry on, in order; an alert follows the attestation that it is about.
///
/// Under a subject is what its providers logged, what names a device of theirs or a past of theirs without right, and
/// what uses a key of theirs elsewhere.
pub fn events(
    registry: &Registry,
    providers: &Providers,
    subject: &Subject,
    mine: &[KeyId],
    from: LeafIndex,
) -> Vec<Event> {
    let scope = Scope::of(providers.identities(), subject, mine);
    let fresh = registry.entries().iter().filter(|entry| entry.index >= from);
    let mut events = Vec::new();
    for entry in fresh {
        match &entry.leaf {
            Ok(Leaf::Attestation(_)) => {
                let own = scope.get(&entry.leaf_hash).filter(|attested| attested.index == entry.index);
                if let Some(attested) = own {
                    events.push(event(attested, entry, attestation(attested, providers)));
                    events.extend(
                        scope
                            .alerts(attested)
                            .into_iter()
                            .map(|why| event(attested, entry, What::Alert { why })),
                    );
                }
            }
            Ok(Leaf::Verdict(verdict)) => {
                let says = What::Verdict { tier: verdict.tier.clone(), reasons: verdict.reasons.clone() };
                let about = scope.get(&verdict.attestation);
                events.extend(about.map(|attested| event(attested, entry, says)));
            }
            Ok(Leaf::Revocation(revocation)) => {
                let says = What::Revocation { from: revocation.from, reason: revocation.reason.clone() };
                let about = scope.last.get(&revocation.key);
                events.extend(about.map(|attested| event(attested, entry, says)));
            }
            Ok(Leaf::ChallengeBatch(batch)) => {
                events.extend(batch.missing.iter().filter_map(|(leaf, why)| {
                    let says = What::Missing { epoch: batch.epoch, reason: why.clone() };
                    scope.get(leaf).map(|attested| event(attested, entry, says))
                }))
            }
            Ok(
                Leaf::Coordinator(_)
                | Leaf::Model(_)
                | Leaf::OperatorAction(_)
                | Leaf::Policy(_)
                | Leaf::PriceTable(_)
                | Leaf::Release(_),
            )
            | Err(_) => {}
        }
    }
    events
}

fn event(attested: &Attested, entry: &Entry, what: What) -> Event {
    Event {
        what,
        index: entry.index,
        provider: attested.provider,
        key: attested.key,
        attestation: attested.leaf,
    }
}

fn attestation(attested: &Attested, providers: &Providers) -> What {
    let claim = Claim {
        evidence: providers.proven(&attested.leaf).map(|proven| proven.tier.name()),
        device: attested.device,
        witnessed: attested.at,
        not_after: attested.not_after,
    };
    match attested.link {
        Link::Continued | Link::First => What::Attestation(claim),
        Link::Rotated => What::Rotation(claim),
        Link::Discontinuity(why) => What::Discontinuity { why: why.to_string(), claim },
    }
}

/// Everything under a subject.
struct Scope<'a> {
    leaves: HashMap<Hash, &'a Attested>,
    /// The newest attestation of each key.
    last: HashMap<KeyId, &'a Attested>,
    /// Where each key appears first.
    first: HashMap<KeyId, LeafIndex>,
    mine: HashSet<KeyId>,
}

impl<'a> Scope<'a> {
    fn of(identities: &'a Identities, subject: &Subject, mine: &[KeyId]) -> Self {
        let all = identities.attested();
        let own: BTreeSet<ProviderId> = match subject {
            Subject::Provider(provider) => BTreeSet::from([*provider]),
            Subject::Device(device) => {
                all.iter().filter(|it| it.device == Some(*device)).map(|it| it.provider).collect()
            }
            Subject::Key(key) => all.iter().filter(|it| it.key == *key).map(|it| it.provider).collect(),
        };
        let chains = || own.iter().flat_map(|provider| identities.chain(provider));
        let mut devices: BTreeSet<Hash> = chains().filter_map(|it| it.device).collect();
        if let Subject::Device(device) = subject {
            // Of a provider that once was in this machine, other machines are not this owner's.
            devices = BTreeSet::from([*device]);
        }
        let mut keys: BTreeSet<KeyId> = chains().map(|it| it.key).collect();
        keys.extend(mine);
        let claims = |it| identities.claimed_past(it).is_some_and(|past| own.contains(&past));
        let under = all.iter().filter(|it| {
            own.contains(&it.provider)
                || it.device.is_some_and(|device| devices.contains(&device))
                || keys.contains(&it.key)
                || claims(it)
        });
        let mut scope = Self {
            leaves: HashMap::new(),
            last: HashMap::new(),
            first: HashMap::new(),
            mine: mine.iter().copied().collect(),
        };
        for attested in under {
            scope.leaves.insert(attested.leaf, attested);
            scope.last.insert(attested.key, attested);
            scope.first.entry(attested.key).or_insert(attested.index);
        }
        if mine.is_empty() {
            // Nobody else can have these: each was counter-signed by the one before.
            scope.mine = match subject {
                Subject::Device(_) => HashSet::new(),
                Subject::Provider(_) => keys.into_iter().collect(),
                Subject::Key(key) => HashSet::from([*key]),
            };
        }
        scope
    }

    fn get(&self, leaf: &Hash) -> Option<&'a Attested> {
        self.leaves.get(leaf).copied()
    }

    fn alerts(&self, attested: &Attested) -> Vec<String> {
        let mut alerts = Vec::new();
        // Once per key: a renewal by the same stranger says nothing new.
        if !self.mine.contains(&attested.key) && self.first.get(&attested.key) == Some(&attested.index) {
            alerts.push(format!("key {} is not one of yours", attested.key));
        }
        for conflict in &attested.conflicts {
            match conflict {
                // Where one of the two keys is not the owner's, that is told already.
                Conflict::DeviceOfTwo { .. } => {}
                Conflict::KeyOnTwoDevices { role, other } => {
                    alerts.push(format!(
                        "its {role} key was attested for another device in attestation {other}"
                    ));
                }
                Conflict::KeyOfTwoProviders { role, other } => {
                    alerts
                        .push(format!("its {role} key is that of another provider, see attestation {other}"));
                }
            }
        }
        alerts
    }
}
