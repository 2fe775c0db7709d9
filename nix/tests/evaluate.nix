# Evaluates the flake's outputs with the stand-in for nixpkgs: a set of checks, each true or false.
let
  flake = import ../../flake.nix;
  outputs = flake.outputs {
    self = outputs;
    nixpkgs = import ./nixpkgs.nix;
  };

  hotbed = outputs.packages.x86_64-linux.hotbed;
  agent = outputs.packages.x86_64-linux.hotbed-agent;
  shell = outputs.devShells.x86_64-linux.default;
  app = outputs.apps.x86_64-linux.default;

  inherit (outputs.lib.x86_64-linux) snapshot test;
  images = "/nix/store/0-images";
  ping = ../../examples/ping.py;
  # With texts in place of the files that they become.
  ofHead = (import ../snapshot.nix {
    inherit hotbed;
    inherit (nixpkgs) lib runCommand;
    writeText = name: text: "<${text}>";
  }).snapshot;
  nixpkgs = (import ./nixpkgs.nix).legacyPackages.x86_64-linux;

  manifest = builtins.fromTOML (builtins.readFile ../../Cargo.toml);
  contains = part: text: builtins.length (builtins.split part text) > 1;

  nixos = import ./nixos.nix { pkgs = (import ./nixpkgs.nix).legacyPackages.x86_64-linux; };
  guest = settings: nixos.evaluate outputs.nixosModules.agent { services.hotbed-agent = settings; };
  unit = (guest { }).systemd.services.hotbed-agent;
  evaluates = value: (builtins.tryEval (builtins.deepSeq value true)).success;
  manifestOfAgent = builtins.fromTOML (builtins.readFile ../../crates/agent/Cargo.toml);
  portName = builtins.head (
    builtins.match ''.*PORT_NAME: &str = "([^"]+)";.*'' (builtins.readFile ../../crates/console/src/agent/wire.rs)
  );

  # The unit of our own image, which the tests boot: a list of section, directive and value.
  debian = builtins.filter (entry: entry != null) (
    map (builtins.match "([A-Za-z]+)=(.*)") (
      builtins.filter builtins.isString (
        builtins.split "\n" (builtins.readFile ../../crates/image/src/guest/debian/hotbed-agent.service)
      )
    )
  );
  # How systemd reads a value of the module.
  said = value: if builtins.isBool value then (if value then "yes" else "no") else toString value;
  ours = {
    Description = unit.description;
  } // unit.unitConfig // unit.serviceConfig;
  # What is another thing in another guest.
  isOfGuest = name: builtins.elem name [ "After" "Before" "ConditionPathExists" "Environment" "ExecStart" "WantedBy" ];
in
{
  "the default package is hotbed" = outputs.packages.x86_64-linux.default.outPath == hotbed.outPath;
  "the package has the version of Cargo.toml" = hotbed.version == manifest.workspace.package.version;
  "the package is built from the lock file" = builtins.pathExists hotbed.cargoLock.lockFile;
  "the package links the Python that it names" = hotbed.env.PYO3_PYTHON == "${builtins.head hotbed.buildInputs}/bin/python3";
  "the program finds QEMU" = contains "-qemu_kvm/bin" hotbed.postInstall;
  "the program finds a static busybox" = contains "-busybox-static-[^/]*/bin" hotbed.postInstall;
  "the program finds an agent that any guest can run" = contains "-hotbed-agent-static-[^/]*/bin/hotbed-agent [^ ]*/libexec/hotbed/" hotbed.postInstall;
  "the agent is a static program" = contains "hotbed-agent-static" agent.pname;
  "the agent's package is one of the workspace" = builtins.elem manifestOfAgent.package.name agent.cargoBuildFlags;
  "the agent is built by a profile of Cargo.toml" = manifest.profile ? ${agent.buildType};
  "the agent has the version of Cargo.toml" = agent.version == manifest.workspace.package.version;
  "all of the agent evaluates" = evaluates (builtins.removeAttrs agent [ "type" ]);
  "the program gets the agent that the flake gives" = contains "${agent}/bin/hotbed-agent" hotbed.postInstall;
  "a guest with the module starts the agent's program" = contains "^${agent}/bin/${agent.meta.mainProgram} " unit.serviceConfig.ExecStart;
  "a guest's agent comes with its port" = (guest { }).services.udev.extraRules == ''
    SUBSYSTEM=="virtio-ports", ATTR{name}=="${portName}", TAG+="systemd", ENV{SYSTEMD_WANTS}+="hotbed-agent.service"
  '';
  "a guest without the port has no agent" = unit.unitConfig.ConditionPathExists == "/dev/virtio-ports/${portName}";
  "a guest's agent comes after the backdoor" = unit.after == [ "backdoor.service" ];
  "nothing waits for a guest's agent" = !unit ? wantedBy && !unit ? requiredBy && !unit ? before && !unit.unitConfig.DefaultDependencies;
  "a guest's agent writes errors where the backdoor does" = contains " --log /dev/ttyS0$" unit.serviceConfig.ExecStart;
  "a guest's agent writes errors to the console if asked to" = !contains "--log" (guest { log = null; }).systemd.services.hotbed-agent.serviceConfig.ExecStart;
  "the agent knows the options that it is given" = contains ''\["--log", path'' (builtins.readFile ../../crates/agent/src/main.rs);
  "a guest's agent has the variables of the backdoor" = builtins.elem [ "Environment" (toString (map (name: "${name}=${unit.environment.${name}}") [ "USER" "HOME" "DISPLAY" ])) ] debian;
  "the unit is that of the debian image" = builtins.length debian > 10 && builtins.all (entry: isOfGuest (builtins.head entry) || said (ours.${builtins.head entry} or null) == builtins.elemAt entry 1) debian;
  "all of a guest's configuration evaluates" = evaluates (guest { });
  "a guest may have another agent" = contains "^/nix/store/0*-bash/bin/hotbed-agent" (guest { package = (import ./nixpkgs.nix).legacyPackages.x86_64-linux.bash; }).systemd.services.hotbed-agent.serviceConfig.ExecStart;
  "a guest may do without" = guest { enable = false; } == { };
  "a misspelt option is an error" = !evaluates (guest { enabled = true; });
  "an option of another type is an error" = !evaluates (guest { enable = "yes"; }) && !evaluates (guest { log = true; });
  "the port is not the guest's to choose" = !evaluates (guest { port = "org.example"; });
  "the package says what it is" = hotbed.meta.mainProgram == "hotbed" && hotbed.meta.platforms == [ "x86_64-linux" ];
  "the app is the package's program" = app.type == "app" && app.program == "${hotbed}/bin/${hotbed.meta.mainProgram}";
  "the shell has what the package is built from" = builtins.elem hotbed.outPath (map (from: from.outPath) shell.inputsFrom);
  "a snapshot depends on the head of its test" = (ofHead { test = ping; inherit images; }).script == "hotbed snapshot build  --snapshots ${images} --out $out <# /// hotbed\n# [machines.alice]\n#\n# [machines.bob]\n# ///\n>\n";
  "a test without a head has no snapshot" = !evaluates (ofHead { test = ../../Cargo.toml; inherit images; }).script;
  "a snapshot is of images that are given" = contains "^hotbed snapshot build --machine alice --snapshots ${images} --out [$]out " (snapshot { test = ping; machines = [ "alice" ]; inherit images; }).script;
  "a snapshot is made with what runs the test" = (test { test = ping; inherit images; }).HOTBED_ACCEL == (snapshot { test = ping; inherit images; }).HOTBED_ACCEL;
  "KVM is a feature of the builder" = (snapshot { test = ping; inherit images; }).requiredSystemFeatures == [ "kvm" ] && (snapshot { test = ping; kvm = false; inherit images; }).requiredSystemFeatures == [ ];
  "a test begins from its snapshots" = contains " --snapshots ${snapshot { test = ping; inherit images; }} " (test { test = ping; inherit images; }).script;
  "a test gets its arguments" = contains "ping.py one two\n$" (test { test = ping; arguments = [ "one" "two" ]; inherit images; }).script;
  "a snapshot is built by the program that the flake gives" = (snapshot { test = ping; inherit images; }).nativeBuildInputs == [ hotbed ];
  "the program knows the options that it is given" = builtins.all (option: contains "pub[(]crate[)] ${option}:" (builtins.readFile ../../crates/cli/src/arguments.rs)) [ "machine" "out" "snapshots" "output_directory" ];
  "the shell has cargo" = builtins.elem "cargo" (map (package: package.pname) shell.packages);
  "all of the package evaluates" = builtins.isString (builtins.toJSON (builtins.removeAttrs hotbed [ "outPath" "type" ] // { src = toString hotbed.src; cargoLock = toString hotbed.cargoLock.lockFile; }));
  "all of the shell evaluates" = builtins.isString (builtins.toJSON (builtins.removeAttrs shell [ "outPath" "type" ]));
  "flake.nix is inputs and outputs only" = builtins.attrNames flake == [ "description" "inputs" "outputs" ];
}
