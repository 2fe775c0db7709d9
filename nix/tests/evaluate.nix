# Evaluates the flake's outputs with the stand-in for nixpkgs: a set of checks, each true or false.
let
  flake = import ../../flake.nix;
  outputs = flake.outputs {
    self = outputs;
    nixpkgs = import ./nixpkgs.nix;
  };

  hotbed = outputs.packages.x86_64-linux.hotbed;
  shell = outputs.devShells.x86_64-linux.default;
  app = outputs.apps.x86_64-linux.default;

  manifest = builtins.fromTOML (builtins.readFile ../../Cargo.toml);
  contains = part: text: builtins.length (builtins.split part text) > 1;
in
{
  "the default package is hotbed" = outputs.packages.x86_64-linux.default.outPath == hotbed.outPath;
  "the package has the version of Cargo.toml" = hotbed.version == manifest.workspace.package.version;
  "the package is built from the lock file" = builtins.pathExists hotbed.cargoLock.lockFile;
  "the package links the Python that it names" = hotbed.env.PYO3_PYTHON == "${builtins.head hotbed.buildInputs}/bin/python3";
  "the program finds QEMU" = contains "-qemu_kvm/bin" hotbed.postInstall;
  "the program finds a static busybox" = contains "-busybox-static-[^/]*/bin" hotbed.postInstall;
  "the program finds an agent that any guest can run" = contains "-hotbed-agent-static-[^/]*/bin/hotbed-agent [^ ]*/libexec/hotbed/" hotbed.postInstall;
  "the package says what it is" = hotbed.meta.mainProgram == "hotbed" && hotbed.meta.platforms == [ "x86_64-linux" ];
  "the app is the package's program" = app.type == "app" && app.program == "${hotbed}/bin/${hotbed.meta.mainProgram}";
  "the shell has what the package is built from" = builtins.elem hotbed.outPath (map (from: from.outPath) shell.inputsFrom);
  "the shell has cargo" = builtins.elem "cargo" (map (package: package.pname) shell.packages);
  "all of the package evaluates" = builtins.isString (builtins.toJSON (builtins.removeAttrs hotbed [ "outPath" "type" ] // { src = toString hotbed.src; cargoLock = toString hotbed.cargoLock.lockFile; }));
  "all of the shell evaluates" = builtins.isString (builtins.toJSON (builtins.removeAttrs shell [ "outPath" "type" ]));
  "flake.nix is inputs and outputs only" = builtins.attrNames flake == [ "description" "inputs" "outputs" ];
}
