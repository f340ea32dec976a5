//! `kill -9` under load, again and again, also while the log starts.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::program::{LIMIT, Process, add, new_log, program, recovers};

const ROUNDS: u64 = 12;
const WRITERS: u64 = 8;

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_loses_nothing_acknowledged() {
    let Some(program) = program() else { return };
    let folder = new_log(&program);
    let acknowledged = Arc::new(Mutex::new(BTreeMap::new()));
    for round in 0..ROUNDS {
        // Every third time it is killed again at some moment of its start, which may be one of recovery.
        if round % 3 == 2 {
            let early = Process::start_only(&[], &program, folder.path());
            tokio::time::sleep(Duration::from_millis(5 + 9 * round)).await;
            drop(early);
        }
        let process = Process::start(&[], &program, folder.path());
        let url = process.url.clone().unwrap_or_else(|| panic!("round {round}: {}", process.said()));
        let done = Arc::new(AtomicU64::new(0));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (url, data) = (url.clone(), folder.path().to_owned());
                let (acknowledged, done) = (Arc::clone(&acknowledged), Arc::clone(&done));
                tokio::spawn(async move {
                    for n in 0.. {
                        // Some are sent by two writers, at about the same time.
                        let entry = format!("{round} {} {n}", if n % 7 == 0 { 0 } else { writer });
                        let Ok(index) = add(&url, &data, &entry, LIMIT).await else { return };
                        let first = *acknowledged.lock().unwrap().entry(entry.clone()).or_insert(index);
                        assert_eq!(first, index, "{entry} has one index");
                        done.fetch_add(1, Relaxed);
                    }
                })
            })
            .collect();
        let enough = 40 + 31 * round;
        while done.load(Relaxed) < enough {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(process);
        for writer in writers {
            writer.await.unwrap();
        }
    }
    let acknowledged = acknowledged.lock().unwrap().clone();
    let mut indices: Vec<_> = acknowledged.values().collect();
    indices.sort_unstable();
    indices.dedup();
    assert_eq!(indices.len(), acknowledged.len(), "every entry has an index of its own");
    let size = recovers(&program, folder.path(), &acknowledged).await.unwrap();
    println!("{} acknowledged entries in a tree of {size}, {ROUNDS} kills", acknowledged.len());
}
