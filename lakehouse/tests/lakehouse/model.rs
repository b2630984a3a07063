//! Any row of pushes, flushes, compactions and restarts: every read equals a model.

use std::collections::BTreeSet;

use acuvim_lakehouse::CompactionPolicy;
use acuvim_schemas::time::DAY;
use proptest::prelude::*;

use crate::support::{self, T0, lake, pairs, query, reading};

#[derive(Debug, Clone)]
enum Step {
    Push { partition: u32, rows: u8, day: i64 },
    Flush,
    Compact,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_u32, 0..6_u8, -2..3_i64)
            .prop_map(|(partition, rows, day)| Step::Push { partition, rows, day }),
        3 => Just(Step::Flush),
        1 => Just(Step::Compact),
        1 => Just(Step::Restart),
    ]
}

async fn run(steps: &[Step]) {
    let dir = tempfile::tempdir().expect("dir");
    let mut store = lake(dir.path()).await;
    let mut all = BTreeSet::new();
    let mut flushed = BTreeSet::new();
    let mut next = [0_i64; 4];
    for (n, step) in (0_i64..).zip(steps) {
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
                store.flush().await.expect("flush");
                flushed = all.clone();
            }
            Step::Compact => {
                let policy = CompactionPolicy { fan_in: 2, max_files: 8 };
                store.compact(policy).await.expect("compact");
            }
            Step::Restart => {
                store = lake(dir.path()).await;
                all = flushed.clone();
                for (slot, partition) in next.iter_mut().zip(0..) {
                    *slot = store.next_offset(partition);
                }
            }
        }
        let got = pairs(&query(&store, "SELECT device_id, ts FROM telemetry").await);
        assert_eq!(got.len(), all.len(), "no row twice after {step:?}");
        assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), all, "after {step:?}");
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
