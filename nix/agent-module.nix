# A NixOS module: the agent of Hotbed in a guest, beside the test driver's backdoor shell, which stays as it is.
#
# The agent starts when its port is there and not otherwise, so that a guest with this module also boots without Hotbed;
# nothing waits for it, and nothing fails when it does.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.hotbed-agent;
  unit = "hotbed-agent.service";
in
{
  options.services.hotbed-agent = {
    enable = lib.mkOption {
      type = lib.types.bool;
      default = true;
      description = "Whether Hotbed may run commands in this machine as root, over a virtio port that only the host has.";
    };

    package = lib.mkOption {
      type = lib.types.package;
      default = pkgs.callPackage ./agent.nix { };
      defaultText = lib.literalExpression "pkgs.callPackage ./agent.nix { }";
      description = "The package with the agent, a static program.";
    };

    port = lib.mkOption {
      type = lib.types.str;
      default = "org.hotbed.agent";
      readOnly = true;
      description = "The name of the virtio port that the agent is asked over, as Hotbed gives it to QEMU.";
    };

    log = lib.mkOption {
      type = lib.types.nullOr lib.types.str;
      default = "/dev/ttyS0";
      example = null;
      description = "Where commands write their errors: the driver's log, as those of the backdoor shell. With null, the console.";
    };
  };

  config = lib.mkIf cfg.enable {
    # What the port's driver is, should the kernel have it as a module.
    boot.kernelModules = [ "virtio_console" ];

    services.udev.extraRules = ''
      SUBSYSTEM=="virtio-ports", ATTR{name}=="${cfg.port}", TAG+="systemd", ENV{SYSTEMD_WANTS}+="${unit}"
    '';

    systemd.services.hotbed-agent = {
      description = "Agent for the test driver";

      # Not before the shell, which is what a boot is waited for by; until the very end, and nothing waits for it.
      after = [ "backdoor.service" ];
      unitConfig = {
        DefaultDependencies = false;
        IgnoreOnIsolate = true;
        ConditionPathExists = "/dev/virtio-ports/${cfg.port}";
        # It is tried again for as long as the guest is there.
        StartLimitIntervalSec = 0;
      };

      # A new configuration does not end what the test is doing.
      restartIfChanged = false;

      environment = {
        USER = "root";
        HOME = "/root";
        DISPLAY = ":0.0";
      };
      # The programs that the agent starts itself; commands have what a login shell has.
      path = [ pkgs.bash ];

      serviceConfig = {
        # It is ready when it has greeted the host and nobody waits for it.
        Type = "notify";
        TimeoutStartSec = "10s";
        ExecStart = lib.escapeShellArgs (
          [ "${cfg.package}/bin/hotbed-agent" ]
          ++ lib.optionals (cfg.log != null) [
            "--log"
            cfg.log
          ]
        );
        Restart = "always";
        RestartSec = "100ms";
        # It has a group for each command, and none of its own processes in one that holds groups.
        Delegate = true;
        TasksMax = "infinity";
        # What it has started ends with it, if it should fail.
        KillSignal = "SIGKILL";
      };
    };
  };
}
