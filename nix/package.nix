# The `hotbed` program, with everything that it starts on its PATH.
{
  lib,
  rustPlatform,
  makeWrapper,
  runCommand,
  pkgsStatic,
  hotbed-agent,
  python3,
  qemu_kvm,
  apt,
  dpkg,
  erofs-utils,
  mmdebstrap,
}:

let
  manifest = (builtins.fromTOML (builtins.readFile ../Cargo.toml)).workspace.package;

  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../benches
      ../crates
      ../xtask
    ];
  };

  # The name that Debian gives it.
  bash-static = runCommand "bash-static" { } ''
    mkdir -p $out/bin
    ln -s ${pkgsStatic.bash}/bin/bash $out/bin/bash-static
  '';

  # What it starts.
  path = lib.makeBinPath [
    apt
    bash-static
    dpkg
    erofs-utils
    mmdebstrap
    pkgsStatic.busybox
    qemu_kvm
  ];
in
rustPlatform.buildRustPackage {
  pname = "hotbed";
  inherit (manifest) version;

  inherit src;
  cargoLock.lockFile = ../Cargo.lock;
  cargoBuildFlags = [
    "--package"
    "hotbed-cli"
  ];

  nativeBuildInputs = [ makeWrapper ];
  buildInputs = [ python3 ];
  env.PYO3_PYTHON = python3.interpreter;

  # The tests boot machines and download what they are made of: `cargo xtask test` runs them, outside of a sandbox.
  doCheck = false;

  postInstall = ''
    install -D ${hotbed-agent}/bin/hotbed-agent $out/libexec/hotbed/hotbed-agent
    wrapProgram $out/bin/hotbed --suffix PATH : ${path}
    # Called by this name, it is the driver of NixOS tests.
    makeWrapper $out/bin/.hotbed-wrapped $out/bin/nixos-test-driver \
      --argv0 nixos-test-driver --suffix PATH : ${path}
  '';

  meta = {
    description = "A warm testbed for virtual machines";
    homepage = manifest.repository;
    license = [
      lib.licenses.mit
      lib.licenses.asl20
    ];
    mainProgram = "hotbed";
    platforms = [ "x86_64-linux" ];
  };
}
