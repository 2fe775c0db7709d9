//! Durations as the NixOS framework's JSON and heads of tests write them.

use std::time::Duration;

/// The longest duration that is taken: a century, so that no deadline overflows.
const DURATION_MAX: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// What a duration must look like, for error messages.
pub(super) const EXPECTED: &str =
    "a number of seconds above 0 (such as 300) or an ISO-8601 duration (such as \"PT5M\")";

/// Takes a number of seconds.
pub(super) fn from_seconds(seconds: f64) -> Option<Duration> {
    let duration = Duration::try_from_secs_f64(seconds).ok()?;
    (!duration.is_zero() && duration <= DURATION_MAX).then_some(duration)
}

/// Takes ISO-8601 (`P1DT2H3M4.5S`), `HH:MM:SS`, or a plain number of seconds.
pub(super) fn from_text(text: &str) -> Option<Duration> {
    let text = text.trim();
    let seconds = match text.strip_prefix(['P', 'p']) {
        Some(iso) => iso_seconds(iso)?,
        None if text.contains(':') => clock_seconds(text)?,
        None => decimal(text)?,
    };
    from_seconds(seconds)
}

/// The part of an ISO-8601 duration after its `P`. Months and years have no fixed length and are not taken.
fn iso_seconds(iso: &str) -> Option<f64> {
    let (days, time) = match iso.split_once(['T', 't']) {
        Some((_, "")) => return None,
        Some((days, time)) => (days, time),
        None => (iso, ""),
    };
    if days.is_empty() && time.is_empty() {
        return None;
    }
    let days = sum_of_units(days, &[('W', 604_800.0), ('D', 86_400.0)])?;
    Some(days + sum_of_units(time, &[('H', 3600.0), ('M', 60.0), ('S', 1.0)])?)
}

/// Adds up numbers with their units; each unit at most once, in order.
fn sum_of_units(text: &str, units: &[(char, f64)]) -> Option<f64> {
    let mut rest = text;
    let mut sum = 0.0;
    for &(unit, factor) in units {
        if let Some((number, after)) = rest.split_once([unit, unit.to_ascii_lowercase()]) {
            sum += decimal(number)? * factor;
            rest = after;
        }
    }
    rest.is_empty().then_some(sum)
}

/// `HH:MM:SS` or `HH:MM:SS.fff`.
fn clock_seconds(text: &str) -> Option<f64> {
    let mut parts = text.splitn(3, ':');
    let (hours, minutes, seconds) = (
        decimal(parts.next()?)?,
        decimal(parts.next()?)?,
        decimal(parts.next()?)?,
    );
    (minutes < 60.0 && seconds < 60.0).then_some(hours * 3600.0 + minutes * 60.0 + seconds)
}

/// Digits with at most one point; Rust's other forms of numbers (`inf`, `1e9`, signs) are not taken.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && text.bytes().any(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}
