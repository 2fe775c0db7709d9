# What it takes to work on Hotbed: what the package is built from, Rust's tools, and what the tests compare with.
{
  mkShell,
  cargo,
  clippy,
  rust-analyzer,
  rustc,
  rustfmt,
  erofs-utils,
  mmdebstrap,
  python3,
  qemu_kvm,
  vde2,
  hotbed,
}:

mkShell {
  inputsFrom = [ hotbed ];
  packages = [
    cargo
    clippy
    rust-analyzer
    rustc
    rustfmt
    erofs-utils
    mmdebstrap
    qemu_kvm
    vde2
  ];
  PYO3_PYTHON = python3.interpreter;
}
