//! Random sequences of pushes, flushes, compactions, cleanings and restarts, with reads in parallel: every
//! read equals a model, counts never decrease, and an older version has the same rows again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use acuvim_lakehouse::CompactionPolicy;
use acuvim_wire::time::DAY;
use proptest::prelude::*;

use crate::support::{self, T0, lake, pairs, query, query_view, reading};

#[derive(Debug, Clone)]
enum Step {
    Push {
        partition: u32,
        rows: u8,
        day: i64,
    },
    Flush,
    Compact,
    /// Compacts days as if they were long past.
    Settle,
    /// Deletes what versions of the last hour do not need. This test reads no older ones.
    Clean,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_u32, 0..6_u8, -2..3_i64)
            .prop_map(|(partition, rows, day)| Step::Push { partition, rows, day }),
        3 => Just(Step::Flush),
        1 => Just(Step::Compact),
        1 => Just(Step::Settle),
        1 => Just(Step::Clean),
        1 => Just(Step::Restart),
    ]
}

async fn run(steps: &[Step]) {
    let dir = tempfile::tempdir().expect("dir");
    let mut store = Arc::new(lake(dir.path()).await);
    let mut versions: BTreeMap<i64, BTreeSet<(String, i64)>> = BTreeMap::new();
    let mut all = BTreeSet::new();
    let mut flushed = BTreeSet::new();
    let mut next = [0_i64; 4];
    for (n, step) in (0_i64..).zip(steps) {
        let watch = Watch::begin(&store);
        match step {
            Step::Push { partition, rows, day } => {
                let at = |i: u8| T0 + day * DAY + n * 100 + i64::from(i);
                let device = format!("d{partition}");
                let readings: Vec<_> = (0..*rows).map(|i| reading(&device, at(i))).collect();
                let slot = &mut next[*partition as usize];
                support::push(&store, *partition, *slot, &readings, &[]);
                *slot += i64::from(*rows);
                all.extend((0..*rows).map(|i| (device.clone(), at(i))));
            }
            Step::Flush => {
                store.flush(true).await.expect("flush");
                flushed = all.clone();
            }
            Step::Compact => {
                let policy =
                    CompactionPolicy { fan_in: 2, max_files: 8, ..CompactionPolicy::default() };
                store.compact(policy, 0).await.expect("compact");
            }
            Step::Settle => {
                let policy = CompactionPolicy {
                    fan_in: 3,
                    file_bytes: 24_000,
                    settle: Duration::ZERO,
                    ..CompactionPolicy::default()
                };
                store.compact(policy, T0 + 36_500 * DAY).await.expect("settle");
            }
            Step::Clean => {
                store.clean(Duration::from_secs(3600)).await.expect("clean");
            }
            Step::Restart => {
                store = Arc::new(lake(dir.path()).await);
                all = flushed.clone();
                for (slot, partition) in next.iter_mut().zip(0..) {
                    *slot = store.next_offset(partition);
                }
            }
        }
        watch.end().await;
        let view = store.view(false).expect("view");
        let stored = pairs(&query_view(&view, SELECT).await).into_iter().collect::<BTreeSet<_>>();
        assert_eq!(stored, flushed, "after {step:?}");
        versions.insert(view.version, stored);
        let got = pairs(&query(&store, "SELECT device_id, ts FROM telemetry").await);
        assert_eq!(got.len(), all.len(), "no row twice after {step:?}");
        assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), all, "after {step:?}");
    }
    for (version, rows) in versions {
        let view = store.view_at(version).await.expect("a version");
        let again = pairs(&query_view(&view, SELECT).await).into_iter().collect::<BTreeSet<_>>();
        assert_eq!(again, rows, "version {version}");
    }
}

const SELECT: &str = "SELECT device_id, ts FROM telemetry";

/// Reads while a step runs: rows that were seen once stay visible.
struct Watch {
    over: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<usize>,
}

impl Watch {
    fn begin(store: &Arc<acuvim_lakehouse::Lake>) -> Self {
        let (over, store) = (Arc::new(AtomicBool::new(false)), Arc::clone(store));
        let done = Arc::clone(&over);
        let task = tokio::spawn(async move {
            let most = AtomicUsize::new(0);
            while !done.load(Ordering::Relaxed) {
                let seen = pairs(&query(&store, SELECT).await);
                let rows = seen.len();
                let different = seen.into_iter().collect::<BTreeSet<_>>().len();
                assert_eq!(rows, different, "no row twice while it is written");
                let before = most.fetch_max(rows, Ordering::Relaxed);
                assert!(rows >= before, "{rows} rows, and there were {before}");
            }
            most.into_inner()
        });
        Self { over, task }
    }

    async fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        self.task.await.expect("every read holds");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn every_read_equals_the_model(steps in proptest::collection::vec(step(), 1..14)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.expect("runtime").block_on(run(&steps));
    }
}
