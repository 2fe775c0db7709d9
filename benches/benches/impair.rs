//! What an impaired link costs a frame: `switch/impair/<what>/<bytes>` is the decision, and the way through the queue of
//! copies with 20,000 frames under way, or more. No sockets.

#![expect(
    clippy::disallowed_methods,
    reason = "an instant cannot be made in any other way"
)]

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hotbed_switch::state::delay::{DELAYED_BYTES_MAX, DELAYED_FRAMES_MAX, DelayQueue, Hop, Stage};
use hotbed_switch::state::impair::fate::{Fate, Impairer};
use hotbed_switch::{Distribution, Impairment, Jitter, Loss, PortId};

/// Bytes of a frame, header included.
const FRAME_BYTES: [usize; 2] = [64, 1500];

criterion_group!(benches, impair);
criterion_main!(benches);

fn impair(c: &mut Criterion) {
    let mut group = c.benchmark_group("switch/impair");
    group.throughput(Throughput::Elements(1));
    let delayed = Impairment {
        delay: Duration::from_millis(20),
        // With jitter, nobody overtakes the slowest: there are more under way than 20 ms let in.
        queue_bytes_max: DELAYED_BYTES_MAX,
        ..Impairment::default()
    };
    let all = Impairment {
        loss: Loss::Uniform(0.01),
        duplicate: 0.01,
        corrupt: 0.01,
        reorder: 0.01,
        jitter: Jitter {
            spread: Duration::from_millis(5),
            distribution: Distribution::Normal,
        },
        ..delayed.clone()
    };
    for (name, config) in [("delay", delayed), ("everything", all)] {
        for bytes in FRAME_BYTES {
            let (mut link, mut now) = (
                Impairer::new(&config, 1).expect("it can be"),
                Instant::now(),
            );
            let mut queue = DelayQueue::new(DELAYED_FRAMES_MAX, DELAYED_BYTES_MAX);
            let frame = vec![0x55; bytes];
            let port = PortId::new(1, 0);
            let hop = Hop {
                stage: Stage::Out,
                ingress: port,
                egress: port,
                segment: 0,
                link: 1,
            };
            let (mut sent, mut arrived) = (0_u64, 0_u64);
            // A frame in a microsecond: 20,000 are under way at a time.
            group.bench_function(BenchmarkId::new(name, bytes), |b| {
                b.iter(|| {
                    now += Duration::from_micros(1);
                    sent += 1;
                    if let Fate::Passes(passage) = link.handle_frame(now, bytes) {
                        for due in passage.due.into_iter().chain(passage.copy) {
                            let buffer = queue.buffer([&frame, &[], &[]]).expect("room");
                            queue.push(due, hop, buffer);
                        }
                    }
                    while let Some((_, _, buffer)) = queue.pop_due(now) {
                        link.handle_left(buffer.bytes().len());
                        queue.recycle(buffer);
                        arrived += 1;
                    }
                });
            });
            let counters = link.counters();
            let expected = sent - counters.lost + counters.duplicated - counters.waiting;
            assert_eq!(arrived, expected, "a frame is not accounted for");
            assert_eq!(counters.queue_full, 0, "what is lost costs less");
        }
    }
    group.finish();
}
