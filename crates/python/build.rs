//! Bakes in which Python this is linked with, and where its library lies.
//!
//! Without the run path the loader takes any `libpython` of the same name, and without the interpreter's path the
//! embedded Python looks for its standard library through `PATH`.

use pyo3_build_config::PythonImplementation;

fn main() {
    let python = pyo3_build_config::get();
    assert!(
        python.implementation() == PythonImplementation::CPython,
        "Hotbed embeds CPython; PYO3_PYTHON names another implementation"
    );
    assert!(
        python.shared(),
        "this Python has no shared library (built without --enable-shared); install python3-dev and set \
         PYO3_PYTHON=/usr/bin/python3"
    );
    let executable = python
        .executable()
        .expect("pyo3 was configured from an interpreter");
    println!("cargo:rustc-env=HOTBED_PYTHON_EXECUTABLE={executable}");
    println!("cargo:rustc-env=HOTBED_PYTHON_VERSION={}", python.version());
    if let Some(folder) = python.lib_dir() {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
        println!("cargo:python_library_folder={folder}"); // For binaries that link this crate.
    }
}
