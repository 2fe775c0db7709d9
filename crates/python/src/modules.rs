//! The package `test_driver`, which scripts import for classes and exceptions.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::debug::{Debug, DebugAbstract, DebugNop};
use crate::driver::Driver;
use crate::exceptions::{MachineError, RequestedAssertionFailed};
use crate::log::{Block, Logger};
use crate::machine::{
    BaseMachine, Completed, Input, NspawnMachine, Output, Parallel, Process, QemuMachine,
};
use crate::polling::{PollingCondition, PollingConditionError};
use crate::qmp::{Events, QmpApiError, QmpSession};
use crate::retry;
use crate::testbed::{Fork, TestbedObject};
use crate::vlan::{
    Ban, Capture, Change, Expectation, Frame, Gateway, Host, Hosts, Link, Port, Station, Vlan,
};

/// Puts the package and its modules where `import` finds them.
pub(crate) fn register(py: Python<'_>) -> PyResult<()> {
    let package = module(py, "test_driver", true)?;
    let errors = module(py, "test_driver.errors", false)?;
    errors.add("MachineError", py.get_type::<MachineError>())?;
    errors.add(
        "RequestedAssertionFailed",
        py.get_type::<RequestedAssertionFailed>(),
    )?;
    let machine = module(py, "test_driver.machine", true)?;
    machine.add_class::<BaseMachine>()?;
    machine.add_class::<QemuMachine>()?;
    machine.add_class::<NspawnMachine>()?;
    machine.add_class::<Completed>()?;
    machine.add_class::<Process>()?;
    machine.add_class::<Input>()?;
    machine.add_class::<Output>()?;
    machine.add_class::<Parallel>()?;
    machine.add("Machine", py.get_type::<QemuMachine>())?;
    machine.add_function(wrap_pyfunction!(retry::retry, &machine)?)?;
    let qmp = module(py, "test_driver.machine.qmp", false)?;
    qmp.add_class::<QmpSession>()?;
    qmp.add_class::<Events>()?;
    qmp.add_class::<QmpApiError>()?;
    machine.add("qmp", &qmp)?;
    let driver = module(py, "test_driver.driver", false)?;
    driver.add_class::<Driver>()?;
    let vlan = module(py, "test_driver.vlan", false)?;
    vlan.add_class::<Vlan>()?;
    vlan.add_class::<Change>()?;
    vlan.add_class::<Capture>()?;
    vlan.add_class::<Frame>()?;
    vlan.add_class::<Expectation>()?;
    vlan.add_class::<Ban>()?;
    vlan.add_class::<Port>()?;
    vlan.add_class::<Station>()?;
    vlan.add_class::<Link>()?;
    vlan.add_class::<Gateway>()?;
    vlan.add_class::<Hosts>()?;
    vlan.add_class::<Host>()?;
    let testbed = module(py, "test_driver.testbed", false)?;
    testbed.add_class::<TestbedObject>()?;
    testbed.add_class::<Fork>()?;
    let polling = module(py, "test_driver.polling_condition", false)?;
    polling.add_class::<PollingCondition>()?;
    polling.add(
        "PollingConditionError",
        py.get_type::<PollingConditionError>(),
    )?;
    let debug = module(py, "test_driver.debug", false)?;
    debug.add_class::<DebugAbstract>()?;
    debug.add_class::<DebugNop>()?;
    debug.add_class::<Debug>()?;
    let logger = module(py, "test_driver.logger", false)?;
    logger.add_class::<Logger>()?;
    logger.add("AbstractLogger", py.get_type::<Logger>())?;
    logger.add_class::<Block>()?;
    for (name, child) in [
        ("debug", debug),
        ("errors", errors),
        ("polling_condition", polling),
        ("machine", machine),
        ("driver", driver),
        ("testbed", testbed),
        ("vlan", vlan),
        ("logger", logger),
    ] {
        package.add(name, child)?;
    }
    Ok(())
}

/// Makes an empty module that the import system knows.
pub(crate) fn module<'py>(
    py: Python<'py>,
    name: &str,
    is_package: bool,
) -> PyResult<Bound<'py, PyModule>> {
    let module = PyModule::new(py, name)?;
    let options = PyDict::new(py);
    options.set_item("is_package", is_package)?;
    let spec = py
        .import("importlib.machinery")?
        .getattr("ModuleSpec")?
        .call((name, py.None()), Some(&options))?;
    module.setattr("__spec__", spec)?;
    if is_package {
        module.setattr("__path__", PyList::empty(py))?;
    }
    py.import("sys")?
        .getattr("modules")?
        .set_item(name, &module)?;
    Ok(module)
}
