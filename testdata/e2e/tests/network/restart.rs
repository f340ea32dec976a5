//! Stopping and starting again, and ports that are taken.

use std::{fs, net::TcpListener, path::Path, time::Duration};

use glassbloom_e2e::network::{Network, Part, Plan};
use tokio::task::block_in_place;

use crate::{
    bed::{Bed, audit, free_ports, plan},
    chat::{answered_within, nothing_lost, published},
};

const LIMIT: Duration = Duration::from_secs(45);

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_continues_the_same_logs() {
    let Some(Bed { network, folder }) = Bed::start() else { return };
    let plan = network.plan().clone();
    let (first, _) = answered_within(&plan, LIMIT).await.unwrap();
    let receipts = published(&plan, "receipts").await.unwrap();
    let registry = published(&plan, "registry").await.unwrap();
    audit(&plan).await.unwrap().expect(0).unwrap();
    block_in_place(|| network.stop_all()).expect("every part stops within ten seconds");

    let secrets = secrets(&plan.data);
    plan.check_ports().expect("every port is free again");
    plan.prepare(&|_| {}).expect("preparing again changes nothing");
    assert_eq!(self::secrets(&plan.data), secrets);

    // The same data on other ports, as `--port-base` would.
    let plan = Plan { port_base: free_ports(), ..plan };
    plan.prepare(&|_| {}).unwrap();
    assert_eq!(self::secrets(&plan.data), secrets);
    let network = block_in_place(|| Network::start(plan, &Part::ALL, &|_| {})).unwrap();
    let plan = network.plan();
    let (second, _) = answered_within(plan, LIMIT).await.unwrap();
    assert_eq!(second.index, first.index + 1);
    nothing_lost(plan, &[first, second]).await.unwrap();
    for (log, (head, leaves)) in [("receipts", receipts), ("registry", registry)] {
        let (now, all) = published(plan, log).await.unwrap();
        assert!(now.size() >= head.size(), "{log}: {} after {}", now.size(), head.size());
        assert_eq!(all[..leaves.len()], leaves, "{log} continues");
    }
    // Its memory of the first start must be consistent with the second.
    audit(plan).await.unwrap().expect(0).unwrap();
    drop(network);
    drop(folder);
}

/// What must never be made anew.
fn secrets(data: &Path) -> Vec<Vec<u8>> {
    ["api-key", "provider-token", "log/token", "release/release.key"]
        .iter()
        .map(|name| fs::read(data.join(name)).unwrap())
        .collect()
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path());
    plan.check_ports().unwrap();
    for part in [Part::Proxy, Part::Log, Part::Witness2] {
        let taken = TcpListener::bind(plan.address(part)).unwrap();
        let error = plan.check_ports().unwrap_err().to_string();
        for word in [taken.local_addr().unwrap().port().to_string().as_str(), part.name(), "--port-base"] {
            assert!(error.contains(word), "{error}");
        }
    }
}
