{
  description = "Hotbed: a warm testbed for virtual machines";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      system = "x86_64-linux";
      pkgs = nixpkgs.legacyPackages.${system};
      hotbed-agent = pkgs.callPackage ./nix/agent.nix { };
      hotbed = pkgs.callPackage ./nix/package.nix { inherit hotbed-agent; };
    in
    {
      packages.${system} = {
        inherit hotbed hotbed-agent;
        default = hotbed;
      };
      apps.${system}.default = {
        type = "app";
        program = "${self.packages.${system}.hotbed}/bin/hotbed";
        meta.description = "Run a test";
      };
      lib.${system} = pkgs.callPackage ./nix/snapshot.nix { inherit hotbed; };
      nixosModules.agent = ./nix/agent-module.nix;
      devShells.${system}.default = pkgs.callPackage ./nix/shell.nix { inherit hotbed; };
    };
}
