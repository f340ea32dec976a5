//! Closed and open loops.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};

/// One client: a connection, or a handle to a log.
pub trait Client: Send + 'static {
    /// Makes one request and waits for its answer.
    fn call(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// How long to load before measuring, and how long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Not counted.
    pub warm_up: Duration,
    /// Counted.
    pub measure: Duration,
}

impl Span {
    /// Measures this long after a warm-up of an eighth of it.
    pub fn of(measure: Duration) -> Self {
        Self { warm_up: measure / 8, measure }
    }
}

/// Every latency of the measured span: exact percentiles need no histogram at these counts.
#[derive(Debug)]
pub struct Measured {
    micros: Vec<u32>,
    span: Duration,
}

impl Measured {
    fn new(mut micros: Vec<u32>, span: Duration) -> Result<Self> {
        ensure!(
            !micros.is_empty(),
            "nothing was answered within {span:?}; measure for longer with --seconds"
        );
        micros.sort_unstable();
        Ok(Self { micros, span })
    }

    /// Answers per second.
    pub fn rate(&self) -> f64 {
        self.micros.len() as f64 / self.span.as_secs_f64()
    }

    /// The latency in milliseconds that this share of the requests, 0 to 1, did not exceed.
    pub fn millis(&self, share: f64) -> f64 {
        let last = self.micros.len() - 1;
        // The smallest sample with at least this share at or below it.
        let rank = (share * self.micros.len() as f64).ceil() as usize;
        f64::from(self.micros[rank.saturating_sub(1).min(last)]) / 1000.0
    }
}

/// Each client sends its next request when the last one is answered.
///
/// # Errors
/// The first error of any client.
pub async fn closed<C: Client>(clients: Vec<C>, span: Span) -> Result<Measured> {
    let from = Instant::now() + span.warm_up;
    let end = from + span.measure;
    let mut tasks = JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move {
            let mut micros = Vec::new();
            loop {
                let begin = Instant::now();
                if begin >= end {
                    return Ok(micros);
                }
                client.call().await?;
                let now = Instant::now();
                if (from..end).contains(&now) {
                    micros.push(whole_micros(now - begin));
                }
            }
        });
    }
    Measured::new(join(tasks).await?, span.measure)
}

/// Requests begin on a schedule of `rate` a second, whatever became of earlier ones; the clients are the most that can
/// be in flight. A request that finds all of them busy waits, and its latency counts from when it should have begun.
///
/// # Errors
/// The first error of any client, or when the backlog is not answered a minute after the last arrival.
pub async fn open<C: Client>(clients: Vec<C>, rate: u32, span: Span) -> Result<Measured> {
    let (arrive, arrivals) = mpsc::unbounded_channel();
    let arrivals = Arc::new(Mutex::new(arrivals));
    let begin = Instant::now();
    let from = begin + span.warm_up;
    let end = from + span.measure;
    // A thread of its own: the runtime's timers are a millisecond coarse.
    let schedule = std::thread::spawn(move || {
        for n in 0_u32.. {
            let intended = begin + Duration::from_secs(1) * n / rate;
            if intended >= end {
                break;
            }
            std::thread::sleep(intended.saturating_duration_since(Instant::now()));
            if arrive.send(intended).is_err() {
                break;
            }
        }
    });
    let mut tasks = JoinSet::new();
    for mut client in clients {
        let arrivals = Arc::clone(&arrivals);
        tasks.spawn(async move {
            let mut micros = Vec::new();
            loop {
                let Some(intended) = arrivals.lock().await.recv().await else { return Ok(micros) };
                client.call().await?;
                if intended >= from {
                    micros.push(whole_micros(intended.elapsed()));
                }
            }
        });
    }
    drop(arrivals);
    let limit = span.warm_up + span.measure + Duration::from_secs(60);
    let done = tokio::time::timeout(limit, join(tasks)).await;
    let micros = done.with_context(|| format!("{rate} requests a second are more than it can answer"))??;
    // Ended when it sent the last arrival, or found that nobody receives.
    ensure!(schedule.join().is_ok(), "the schedule of arrivals broke off");
    Measured::new(micros, span.measure)
}

async fn join(mut tasks: JoinSet<Result<Vec<u32>>>) -> Result<Vec<u32>> {
    let mut micros = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        micros.append(&mut ended.context("a client panicked")??);
    }
    Ok(micros)
}

fn whole_micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let measured = Measured::new((1..=1000).rev().map(|n| n * 1000).collect(), Duration::from_secs(2));
        let measured = measured.unwrap();
        let read = [0.5, 0.99, 1.0, 0.0].map(|share| measured.millis(share));
        assert_eq!(read, [500.0, 990.0, 1000.0, 1.0]);
        assert_eq!(measured.rate(), 500.0);
        assert!(Measured::new(vec![], Duration::from_secs(1)).is_err());
    }

    /// Answers at once, except for one call that blocks.
    struct FakeStall {
        calls: u32,
    }

    impl Client for FakeStall {
        async fn call(&mut self) -> Result<()> {
            self.calls += 1;
            if self.calls == 2 {
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
            tokio::task::yield_now().await;
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_stall_is_charged_to_every_request_it_delays() {
        let span = Span { warm_up: Duration::ZERO, measure: Duration::from_millis(300) };
        let measured = open(vec![FakeStall { calls: 0 }], 200, span).await.unwrap();
        assert_eq!(measured.micros.len(), 60, "every arrival is answered");
        // 150 ms at 200 a second: some thirty arrivals waited, 75 ms on average.
        let delayed = measured.micros.iter().filter(|micros| **micros >= 50_000).count();
        assert!(delayed >= 15, "only {delayed} arrivals were charged");
        // A closed loop sees the same stall once: this is what it hides.
        let closed = closed(vec![FakeStall { calls: 0 }], span).await.unwrap();
        assert_eq!(closed.micros.iter().filter(|micros| **micros >= 50_000).count(), 1);
    }
}
