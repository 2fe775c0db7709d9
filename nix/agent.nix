# The program for guests, `hotbed-agent`: static, so that any guest can run it.
{ lib, pkgsStatic }:

let
  manifest = (builtins.fromTOML (builtins.readFile ../Cargo.toml)).workspace.package;
in
pkgsStatic.rustPlatform.buildRustPackage {
  pname = "hotbed-agent";
  inherit (manifest) version;

  src = lib.fileset.toSource {
    root = ../.;
    # The whole workspace: cargo wants to see all of its members.
    fileset = lib.fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../benches
      ../crates
      ../xtask
    ];
  };
  cargoLock.lockFile = ../Cargo.lock;
  cargoBuildFlags = [
    "--package"
    "hotbed-agent"
  ];
  # The profile of Cargo.toml that makes it small.
  buildType = "agent";

  # Its tests are the workspace's: `cargo xtask test` runs them.
  doCheck = false;

  meta = {
    description = "The agent of Hotbed in a virtual machine";
    homepage = manifest.repository;
    license = [
      lib.licenses.mit
      lib.licenses.asl20
    ];
    mainProgram = "hotbed-agent";
    platforms = [ "x86_64-linux" ];
  };
}
