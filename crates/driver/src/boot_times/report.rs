//! What was measured, in numbers.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Boot, Series, chart};

/// The version of the JSON's form.
const VERSION: u32 = 1;

/// The middle, the shortest and the longest of several times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The middle one; of an even number the later of the two.
    pub median: Duration,
    /// The shortest.
    pub min: Duration,
    /// The longest.
    pub max: Duration,
}

impl Span {
    /// Of these times; `None` when there are none.
    #[must_use]
    pub fn of(times: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let mut times: Vec<Duration> = times.into_iter().collect();
        times.sort_unstable();
        Some(Self {
            median: *times.get(times.len() / 2)?,
            min: *times.first()?,
            max: *times.last()?,
        })
    }

    fn to_json(self) -> Value {
        json!({
            "median_ms": milliseconds(self.median),
            "min_ms": milliseconds(self.min),
            "max_ms": milliseconds(self.max),
        })
    }
}

impl Series {
    /// Each phase over all starts, in order.
    #[must_use]
    pub fn phases(&self) -> Vec<(&'static str, Span)> {
        let names = self.boots.first().into_iter().flat_map(|boot| &boot.phases);
        names
            .filter_map(|phase| {
                let all = self.boots.iter().flat_map(|boot| &boot.phases);
                let times = all.filter(|other| other.name == phase.name);
                Some((phase.name, Span::of(times.map(|phase| phase.length))?))
            })
            .collect()
    }

    /// The whole starts; `None` when there were none.
    #[must_use]
    pub fn totals(&self) -> Option<Span> {
        Span::of(self.boots.iter().map(Boot::total))
    }

    /// QEMU's processor time; `None` when there was no start.
    #[must_use]
    pub fn processor(&self) -> Option<Span> {
        Span::of(self.boots.iter().map(|boot| boot.processor))
    }

    fn to_json(&self) -> Value {
        let phases: Vec<Value> = self.phases().into_iter().map(named).collect();
        let boots: Vec<Value> = self.boots.iter().map(boot_to_json).collect();
        json!({
            "machine": self.machine,
            "start": self.start.name(),
            "boots": boots,
            "summary": {
                "phases": phases,
                "total": self.totals().map(Span::to_json),
                "cpu": self.processor().map(Span::to_json),
            },
        })
    }
}

fn named((name, span): (&'static str, Span)) -> Value {
    let mut value = span.to_json();
    if let Value::Object(fields) = &mut value {
        fields.insert("name".to_owned(), name.into());
    }
    value
}

fn boot_to_json(boot: &Boot) -> Value {
    let mut begin = Duration::ZERO;
    let mut phases = Vec::new();
    for phase in &boot.phases {
        phases.push(json!({
            "name": phase.name,
            "begin_ms": milliseconds(begin),
            "length_ms": milliseconds(phase.length),
        }));
        begin += phase.length;
    }
    json!({
        "phases": phases,
        "total_ms": milliseconds(boot.total()),
        "cpu_ms": milliseconds(boot.processor),
    })
}

/// Milliseconds, to the microsecond.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Several series, measured on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What ran the guests' instructions, in words.
    pub accelerator: String,
    /// What was measured.
    pub series: Vec<Series>,
}

impl Report {
    /// All of it as JSON; times are in milliseconds.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let series: Vec<Value> = self.series.iter().map(Series::to_json).collect();
        json!({ "version": VERSION, "accelerator": self.accelerator, "series": series })
    }

    /// All of it as a picture: a row for each start, a bar for each phase.
    #[must_use]
    pub fn to_svg(&self) -> String {
        chart::draw(self)
    }
}
