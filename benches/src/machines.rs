//! A testbed that says nothing, and calls that do not hang.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hotbed_driver::{Call, Log, Never, Options, TestConfig, Testbed};
use hotbed_image::Silent;

/// How long anything in a bench may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A call that ends after two minutes.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a deadline starts now")]
pub fn call() -> Call<'static> {
    Call {
        until: Some(Instant::now() + PATIENCE),
        interrupt: &Never,
    }
}

/// The testbed of a head, with its images built; boots nothing.
///
/// # Panics
///
/// When the head is not valid or the host does not give what is needed.
#[must_use]
pub fn testbed(head: &str) -> Arc<Testbed> {
    let config = TestConfig::from_python_file(Path::new("bench.py"), head).expect("a valid head");
    let testbed = Testbed::new(
        config,
        Options::default(),
        Arc::new(Log::to(Box::new(std::io::sink()), false)),
    )
    .expect("a testbed");
    testbed
        .prepare_images(&Silent, &Call::unlimited())
        .expect("the images");
    testbed
}
