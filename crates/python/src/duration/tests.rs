use std::ffi::CString;
use std::sync::Once;

use super::*;

static START: Once = Once::new();

fn extract<T>(expression: &str) -> Result<T, String>
where
    T: for<'a, 'py> FromPyObject<'a, 'py, Error = PyErr>,
{
    START.call_once(|| {
        crate::Interpreter::start(&[]).expect("Python starts");
    });
    Python::attach(|py| {
        let code = CString::new(format!("__import__('datetime') and {expression}"))
            .expect("code has no NUL");
        let value = py.eval(&code, None, None).expect("an expression");
        value
            .extract::<T>()
            .map_err(|error: PyErr| error.to_string())
    })
}

fn timeout(expression: &str) -> Option<Duration> {
    extract::<Timeout>(expression).expect("a timeout").0
}

#[test]
fn a_delay_may_be_a_text_with_a_unit() {
    let of = |text: &str| super::from_text(text).map(|delay| delay.as_micros());
    assert_eq!(of("20ms"), Some(20_000));
    assert_eq!(of("1.5 s"), Some(1_500_000));
    assert_eq!(of("7us"), Some(7));
    for wrong in ["", "20", "ms", "-1ms", "infs", "nans", "1 min", "1e300s"] {
        assert_eq!(of(wrong), None, "{wrong}");
    }
}

#[test]
fn numbers_and_timedeltas_are_durations() {
    let timedelta = "__import__('datetime').timedelta";
    assert_eq!(timeout("5"), Some(Duration::from_secs(5)));
    assert_eq!(timeout("0.25"), Some(Duration::from_millis(250)));
    let minutes = timeout(&format!("{timedelta}(minutes=2, milliseconds=1)"));
    assert_eq!(minutes, Some(Duration::from_millis(120_001)));
}

#[test]
fn none_and_infinity_are_without_end() {
    assert_eq!(timeout("None"), None);
    assert_eq!(timeout("float('inf')"), None);
}

#[test]
fn what_is_below_zero_or_beyond_all_clocks_is_cut() {
    assert_eq!(timeout("-3"), Some(Duration::ZERO));
    assert_eq!(timeout("1e300"), Some(LONGEST));
    assert_eq!(timeout("10**30"), Some(LONGEST));
    assert_eq!(
        timeout("__import__('datetime').timedelta.max"),
        Some(LONGEST)
    );
}

#[test]
fn booleans_texts_and_nan_are_refused() {
    for wrong in ["True", "False", "'5'", "[]"] {
        let error = extract::<Timeout>(wrong).expect_err("not a duration");
        assert!(error.starts_with("TypeError: a duration is"), "{error}");
    }
    let error = extract::<Timeout>("float('nan')").expect_err("not a duration");
    assert!(error.starts_with("ValueError"), "{error}");
    assert!(extract::<Span>("None").is_err());
}
