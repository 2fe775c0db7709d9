# Tests as derivations, whose machines begin from snapshots that are derivations, too.
#
# A build of Nix has no network, so images come from outside: `hotbed image build --out images test.py` makes them.
{
  lib,
  runCommand,
  writeText,
  hotbed,
}:

let
  # What of a test its machines boot by: all else may change, and the snapshots stay.
  headOf =
    test:
    let
      lines = builtins.filter builtins.isString (builtins.split "\n" (builtins.readFile test));
      step =
        found: line:
        if found.isOver then
          found
        else if found.lines == [ ] && line != "# /// hotbed" then
          found
        else
          {
            lines = found.lines ++ [ line ];
            isOver = line == "# ///";
          };
      found = builtins.foldl' step {
        lines = [ ];
        isOver = false;
      } lines;
    in
    if found.isOver then
      builtins.concatStringsSep "\n" found.lines + "\n"
    else
      throw "${toString test} has no head";

  # How a machine runs is part of its snapshot.
  environment = kvm: {
    nativeBuildInputs = [ hotbed ];
    requiredSystemFeatures = lib.optional kvm "kvm";
    HOTBED_ACCEL = if kvm then "kvm" else "tcg";
  };

  # The snapshots of a test's machines: `machines`, or all.
  snapshot =
    {
      test,
      images,
      machines ? [ ],
      kvm ? true,
    }:
    let
      head = writeText "head.py" (headOf test);
      chosen = builtins.concatMap (name: [
        "--machine"
        name
      ]) machines;
    in
    runCommand "hotbed-snapshot" (environment kvm) ''
      hotbed snapshot build ${lib.escapeShellArgs chosen} --snapshots ${images} --out $out ${head}
    '';

  # A run of a test; fails when the test does. What it copies from its machines is the output, with their consoles.
  test =
    {
      test,
      images,
      kvm ? true,
      snapshots ? snapshot { inherit test images kvm; },
      arguments ? [ ],
    }:
    runCommand "hotbed-test" (environment kvm) ''
      mkdir $out
      hotbed run --output-directory $out --snapshots ${snapshots} ${test} ${lib.escapeShellArgs arguments}
    '';
in
{
  inherit snapshot test;
}
