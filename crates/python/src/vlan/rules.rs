//! What happens to frames on purpose.

use std::sync::{Arc, Mutex, PoisonError};

use hotbed_driver::vlan::{Before, Distribution, End, Frames, Impairment, Jitter, Loss, Rate};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::Vlan;
use crate::call;
use crate::duration::Delay;

#[pymethods]
impl Vlan {
    /// Impairs frames: all, those between two machines, or those from or to one. It lasts until the end of the block of a `with`
    /// statement, or until it is undone.
    #[pyo3(
        signature = (between=None, *, source=None, target=None, delay=None, jitter=None, distribution="uniform", loss=0.0, burst=None, duplicate=0.0, corrupt=0.0, reorder=0.0, rate=None, down=false, seed=0),
        text_signature = "($self, between=None, *, source=None, target=None, delay=None, jitter=None, distribution='uniform', loss=0.0, burst=None, duplicate=0.0, corrupt=0.0, reorder=0.0, rate=None, down=False, seed=0)"
    )]
    #[expect(clippy::too_many_arguments, reason = "keywords of a script")]
    fn impair(
        &self,
        py: Python<'_>,
        between: Option<&Bound<'_, PyAny>>,
        source: Option<&Bound<'_, PyAny>>,
        target: Option<&Bound<'_, PyAny>>,
        delay: Option<Delay>,
        jitter: Option<Delay>,
        distribution: &str,
        loss: f64,
        burst: Option<f64>,
        duplicate: f64,
        corrupt: f64,
        reorder: f64,
        rate: Option<BitRate>,
        down: bool,
        seed: u64,
    ) -> PyResult<Change> {
        let frames = self.frames(between, source, target)?;
        let impairment = Impairment {
            seed,
            is_down: down,
            loss: losses(loss, burst)?,
            duplicate,
            corrupt,
            reorder,
            delay: delay.unwrap_or_default().0,
            jitter: Jitter {
                spread: jitter.unwrap_or_default().0,
                distribution: distribution_of(distribution)?,
            },
            rate: rate.map(|rate| Rate::new(rate.0)),
            ..Impairment::default()
        };
        let before = call::run(py, |_| self.vlan.impair(frames, &impairment))?;
        Ok(self.change(before))
    }

    /// Parts machines: nothing passes from one group to another. Who is in no group is in one more. It lasts as `impair` does.
    #[pyo3(signature = (*groups))]
    fn partition(&self, py: Python<'_>, groups: Vec<Bound<'_, PyAny>>) -> PyResult<Change> {
        let ends = groups.iter().map(|group| self.ends(group));
        let groups = ends.collect::<PyResult<Vec<_>>>()?;
        let before = call::run(py, |_| self.vlan.partition(&groups))?;
        Ok(self.change(before))
    }

    /// Ends a partition and all impairments; as the block of a `with` statement ends, they are back.
    fn heal(&self, py: Python<'_>) -> PyResult<Change> {
        let before = call::run(py, |_| self.vlan.heal())?;
        Ok(self.change(before))
    }
}

impl Vlan {
    fn change(&self, before: Before) -> Change {
        Change {
            vlan: Arc::clone(&self.vlan),
            before: Mutex::new(Some(before)),
        }
    }

    fn frames(
        &self,
        between: Option<&Bound<'_, PyAny>>,
        source: Option<&Bound<'_, PyAny>>,
        target: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Frames> {
        if let Some(between) = between {
            if source.is_some() || target.is_some() {
                return Err(PyTypeError::new_err(
                    "between= is both directions, source= and target= are one: not both",
                ));
            }
            let ends: [End; 2] = self.ends(between)?.try_into().map_err(|_| {
                PyValueError::new_err("between= takes two machines: between=(alice, bob)")
            })?;
            let [from, to] = ends;
            return Ok(Frames::Between(from, to));
        }
        let source = source.map(|port| self.end(port)).transpose()?;
        let target = target.map(|port| self.end(port)).transpose()?;
        Ok(match (source, target) {
            (None, None) => Frames::All,
            (None, Some(target)) => Frames::To(target),
            (Some(source), target) => Frames::From(source, target),
        })
    }
}

/// Each frame alone, or in bursts that are so long on average.
fn losses(chance: f64, burst: Option<f64>) -> PyResult<Loss> {
    let Some(burst) = burst else {
        return Ok(Loss::Uniform(chance));
    };
    if burst.is_nan() || burst < 1.0 || !(0.0..1.0).contains(&chance) {
        return Err(PyValueError::new_err(
            "burst= is how many frames are lost at once on average, 1 or more; loss= is less than 1 then",
        ));
    }
    // Of all frames, to_bad / (to_bad + to_good) find the link bad.
    Ok(Loss::Bursts {
        to_bad: (chance / (burst * (1.0 - chance))).min(1.0),
        to_good: 1.0 / burst,
        lost_in_good: 0.0,
        lost_in_bad: 1.0,
    })
}

fn distribution_of(name: &str) -> PyResult<Distribution> {
    Ok(match name {
        "uniform" => Distribution::Uniform,
        "normal" => Distribution::Normal,
        "pareto" => Distribution::Pareto,
        other => {
            return Err(PyValueError::new_err(format!(
                "distribution is \"uniform\", \"normal\" or \"pareto\", not {other:?}"
            )));
        }
    })
}

/// Bits in a second: a number, or a text such as `10Mbit`.
struct BitRate(u64);

impl<'py> FromPyObject<'_, 'py> for BitRate {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(number) = object.extract::<u64>() {
            return Ok(Self(number));
        }
        let text: String = object.extract()?;
        let units = [("kbit", 1e3), ("Mbit", 1e6), ("Gbit", 1e9), ("bit", 1.0)];
        let split = |&(unit, factor): &(&str, f64)| Some((text.strip_suffix(unit)?, factor));
        let bits = units.iter().find_map(split).and_then(|(number, factor)| {
            let bits = number.trim().parse::<f64>().ok()? * factor;
            (0.0..=1e15).contains(&bits).then_some(bits)
        });
        let wrong = || {
            PyValueError::new_err(format!(
                "a rate is a number of bits per second, or a text such as \"10Mbit\", not {text:?}"
            ))
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it was compared"
        )]
        bits.map(|bits| Self(bits as u64)).ok_or_else(wrong)
    }
}

/// Something that was changed on a VLAN: it is undone at the end of the block of a `with` statement, or by `undo`.
#[pyclass(frozen, module = "test_driver.vlan")]
pub(crate) struct Change {
    vlan: Arc<hotbed_driver::Vlan>,
    /// Taken when it is undone.
    before: Mutex<Option<Before>>,
}

#[pymethods]
impl Change {
    /// Makes hold what held before; a second time it does nothing.
    fn undo(&self, py: Python<'_>) -> PyResult<()> {
        let before = self
            .before
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match before {
            Some(before) => call::run(py, |_| self.vlan.undo(before)),
            None => Ok(()),
        }
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyTuple>) -> PyResult<bool> {
        self.undo(py)?;
        Ok(false)
    }
}
