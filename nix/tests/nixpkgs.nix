# A stand-in for the nixpkgs flake: as much of it as our expressions touch, and nothing that builds.
#
# A package is a set that becomes its store path in a string, as a derivation does. `callPackage` hands a function the
# arguments that it names and throws on one that is not here, so that a misspelt argument fails as it would with nixpkgs.
let
  package = name: {
    type = "derivation";
    pname = name;
    outPath = "/nix/store/00000000000000000000000000000000-${name}";
  };

  names = [
    "apt"
    "bash"
    "cargo"
    "clippy"
    "dpkg"
    "erofs-utils"
    "makeWrapper"
    "mmdebstrap"
    "qemu_kvm"
    "rust-analyzer"
    "rustc"
    "rustfmt"
    "vde2"
  ];

  derive = arguments: arguments // package "${arguments.pname}-${arguments.version}";

  pkgs =
    builtins.listToAttrs (
      map (name: {
        inherit name;
        value = package name;
      }) names
    )
    // {
      inherit callPackage;
      lib = {
        fileset = {
          unions = paths: assert builtins.all builtins.pathExists paths; paths;
          toSource = { root, fileset }: assert builtins.isList fileset; root;
        };
        licenses = {
          mit.spdxId = "MIT";
          asl20.spdxId = "Apache-2.0";
        };
        escapeShellArgs = builtins.concatStringsSep " ";
        optional = condition: value: if condition then [ value ] else [ ];
        makeBinPath = packages: builtins.concatStringsSep ":" (map (package: "${package}/bin") packages);
      };
      mkShell = arguments: arguments // package "nix-shell";
      pkgsStatic = {
        bash = package "bash-static-x86_64-unknown-linux-musl";
        busybox = package "busybox-static-x86_64-unknown-linux-musl";
        rustPlatform.buildRustPackage =
          arguments: derive (arguments // { pname = "${arguments.pname}-static"; });
      };
      python3 = package "python3" // {
        interpreter = "${package "python3"}/bin/python3";
      };
      runCommand = name: environment: script: environment // package name // { inherit script; };
      writeText = name: text: package name // { inherit text; };
      rustPlatform.buildRustPackage = derive;
    };

  callPackage =
    path: overrides:
    let
      function = import path;
    in
    function (builtins.mapAttrs (name: hasDefault: overrides.${name} or pkgs.${name}) (builtins.functionArgs function));
in
{
  legacyPackages.x86_64-linux = pkgs;
}
