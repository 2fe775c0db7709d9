//! Lets the binary find the Python library that it was linked with, without `LD_LIBRARY_PATH`.

fn main() {
    // Set by the build script of hotbed-python.
    println!("cargo:rerun-if-env-changed=DEP_HOTBED_PYTHON_PYTHON_LIBRARY_FOLDER");
    if let Ok(folder) = std::env::var("DEP_HOTBED_PYTHON_PYTHON_LIBRARY_FOLDER") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
