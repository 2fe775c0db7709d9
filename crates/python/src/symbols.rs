//! The names that a script finds defined.

use std::collections::BTreeMap;
use std::sync::Arc;

use hotbed_driver::config::names;
use hotbed_driver::{MachineConfig, Testbed};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::driver::Driver;
use crate::exceptions::RequestedAssertionFailed;
use crate::machine::{BaseMachine, NspawnMachine, QemuMachine};
use crate::testbed::TestbedObject;
use crate::vlan::Vlan;
use crate::{debug, modules, retry};

/// Methods of `driver` that scripts call by their bare names.
const DRIVER_METHODS: [&str; 9] = [
    "start_all",
    "join_all",
    "subtest",
    "serial_stdout_on",
    "serial_stdout_off",
    "test_script",
    "run_tests",
    "create_machine",
    "polling_condition",
];

/// Builds the symbols for a script whose text is `text`.
///
/// A machine whose name is that of another symbol goes before it.
pub(crate) fn build<'py>(
    py: Python<'py>,
    testbed: &Arc<Testbed>,
    text: &str,
    debug_hook: Option<&str>,
) -> PyResult<Bound<'py, PyDict>> {
    let (machines, callbacks) = (PyList::empty(py), PyList::empty(py));
    for machine in testbed.machines() {
        machines.append(QemuMachine::new(py, testbed, machine, &callbacks)?)?;
    }
    let vlans = PyList::empty(py);
    for vlan in testbed.vlans() {
        let vlan = Arc::clone(vlan);
        vlans.append(Bound::new(
            py,
            Vlan {
                vlan,
                testbed: Arc::clone(testbed),
            },
        )?)?;
    }
    let driver = Bound::new(
        py,
        Driver {
            testbed: Arc::clone(testbed),
            machines: machines.clone().unbind(),
            vlans: vlans.clone().unbind(),
            polling_conditions: PyList::empty(py).unbind(),
            debug: debug::make(py, testbed.log(), debug_hook)?.unbind(),
            tests: text.to_owned(),
        },
    )?;
    callbacks.append(driver.getattr("check_polling_conditions")?)?;
    let symbols = PyDict::new(py);
    for name in DRIVER_METHODS {
        symbols.set_item(name, driver.getattr(name)?)?;
    }
    symbols.set_item("machines", &machines)?;
    symbols.set_item("machines_qemu", &machines)?;
    symbols.set_item("machines_nspawn", PyList::empty(py))?;
    symbols.set_item("vlans", &vlans)?;
    symbols.set_item("debug", driver.getattr("debug")?)?;
    symbols.set_item("log", driver.getattr("logger")?)?;
    symbols.set_item("driver", driver)?;
    let whole = TestbedObject {
        testbed: Arc::clone(testbed),
    };
    symbols.set_item("testbed", Bound::new(py, whole)?)?;
    symbols.set_item("os", py.import("os")?)?;
    symbols.set_item("retry", wrap_pyfunction!(retry::retry, py)?)?;
    symbols.set_item("t", test_case(py)?)?;
    symbols.set_item("BaseMachine", py.get_type::<BaseMachine>())?;
    symbols.set_item("QemuMachine", py.get_type::<QemuMachine>())?;
    symbols.set_item("NspawnMachine", py.get_type::<NspawnMachine>())?;
    symbols.set_item("Machine", py.get_type::<QemuMachine>())?;
    for vlan in vlans.iter() {
        let number: u8 = vlan.getattr("nr")?.extract()?;
        symbols.set_item(format!("vlan{number}"), vlan)?;
    }
    add_clones(&symbols, &machines, testbed)?;
    for (object, config) in machines.iter().zip(&testbed.config().machines) {
        if testbed.machines().len() == 1 {
            symbols.set_item("machine", &object)?;
        }
        symbols.set_item(config.identifier(), object)?;
    }
    // For modules that the script imports, and for type checkers.
    let module = modules::module(py, "test_driver.script", false)?;
    module.dict().update(symbols.as_mapping())?;
    py.import("test_driver")?.add("script", module)?;
    Ok(symbols)
}

/// Prints the names of machines, VLANs and all else, as the NixOS driver does.
pub(crate) fn list(symbols: &Bound<'_, PyDict>, testbed: &Testbed) -> PyResult<()> {
    let machines: Vec<_> = testbed
        .config()
        .machines
        .iter()
        .map(MachineConfig::identifier)
        .collect();
    let number = |vlan: &Arc<hotbed_driver::Vlan>| format!("vlan{}", vlan.number());
    let vlans: Vec<_> = testbed.vlans().iter().map(number).collect();
    let names: Vec<String> = symbols.keys().extract()?;
    let is_general = |name: &String| !machines.contains(name) && !vlans.contains(name);
    let general: Vec<_> = names.into_iter().filter(is_general).collect();
    let text = format!(
        "additionally exposed symbols:\n    {},\n    {},\n    {}",
        machines.join(", "),
        vlans.join(", "),
        general.join(", ")
    );
    symbols
        .py()
        .import("builtins")?
        .call_method1("print", (text,))?;
    Ok(())
}

/// A list for the clones of each machine, `workers` for those of `worker`; what has that name already keeps it.
fn add_clones(
    symbols: &Bound<'_, PyDict>,
    machines: &Bound<'_, PyList>,
    testbed: &Testbed,
) -> PyResult<()> {
    let mut lists: BTreeMap<String, Vec<Bound<'_, PyAny>>> = BTreeMap::new();
    for (object, config) in machines.iter().zip(&testbed.config().machines) {
        if let Some(name) = &config.clone_of {
            let list = format!("{}s", names::python_identifier(name));
            lists.entry(list).or_default().push(object);
        }
    }
    for (name, clones) in lists {
        if !symbols.contains(&name)? {
            symbols.set_item(name, clones)?;
        }
    }
    Ok(())
}

/// `t`: the assertions of `unittest`, which fail as the test's own demands do.
fn test_case(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let base = py.import("unittest")?.getattr("TestCase")?;
    let members = PyDict::new(py);
    members.set_item(
        "failureException",
        py.get_type::<RequestedAssertionFailed>(),
    )?;
    members.set_item("__module__", "test_driver.driver")?;
    let kind = py.import("builtins")?.getattr("type")?;
    kind.call1(("Tester", (base,), members))?.call0()
}
