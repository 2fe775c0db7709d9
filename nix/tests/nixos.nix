# A stand-in for NixOS: as much of its module system as our module touches.
#
# `evaluate` gives what the module sets, and throws on an option that is not declared, by the module for its users or by NixOS for
# the module, and on a value of another type.
{ pkgs }:

let
  inherit (builtins) all attrNames attrValues isAttrs isBool isInt isList isString mapAttrs;

  option = arguments: { _type = "option"; } // arguments;
  isOption = value: isAttrs value && value._type or null == "option";
  # What `mkOption` may be told.
  optionFields = {
    type = null;
    default = null;
    defaultText = null;
    example = null;
    description = null;
    readOnly = null;
  };

  types = rec {
    bool = isBool;
    str = isString;
    lines = isString;
    package = value: isAttrs value && value.type or null == "derivation";
    nullOr = type: value: value == null || type value;
    listOf = type: value: isList value && all type value;
    attrsOf = type: value: isAttrs value && all type (attrValues value);
    unitName = value: builtins.match "[a-zA-Z0-9@%:_.\\-]+[.](service|scope|socket|device|mount|target)" value != null;
    directive = value: isBool value || isInt value || isString value;
  };

  lib = pkgs.lib // {
    inherit types;
    mkOption = arguments: assert builtins.removeAttrs arguments (attrNames optionFields) == { }; option arguments;
    mkIf = condition: content: { _type = "if"; inherit condition content; };
    literalExpression = text: { _type = "literalExpression"; inherit text; };
    optionals = condition: list: if condition then list else [ ];
  };

  declare = type: option { inherit type; };

  # What NixOS declares, by the names and types of nixos/modules and nixos/lib/systemd-unit-options.nix.
  nixos = {
    boot.kernelModules = declare (types.listOf types.str);
    services.udev.extraRules = declare types.lines;
    systemd.services = each {
      description = declare types.str;
      after = declare (types.listOf types.unitName);
      unitConfig = declare (types.attrsOf types.directive);
      restartIfChanged = declare types.bool;
      environment = declare (types.attrsOf (types.nullOr types.str));
      path = declare (types.listOf types.package);
      serviceConfig = declare (types.attrsOf types.directive);
    };
  };
  each = schema: { _type = "each"; inherit schema; };

  # The values, each of which is of its option's type.
  conform =
    name: schema: values:
    if isOption schema then
      if schema.type values then values else throw "${name} has a value of another type"
    else if schema._type or null == "each" then
      mapAttrs (key: conform "${name}.${key}" schema.schema) values
    else
      mapAttrs (
        key: conform "${name}.${key}" (schema.${key} or (throw "there is no option ${name}.${key}"))
      ) values;

  # What a user has set, else defaults.
  fill =
    schema: settings:
    mapAttrs (
      key: inner:
      if !isOption inner then
        fill inner (settings.${key} or { })
      else if !settings ? ${key} then
        inner.default
      else if inner.readOnly or false then
        throw "${key} cannot be set"
      else
        settings.${key}
    ) schema;
in
{
  evaluate =
    module: settings:
    let
      parts = (import module) {
        inherit lib pkgs;
        config = conform "config" parts.options (fill parts.options settings);
      };
    in
    assert attrNames parts == [ "config" "options" ];
    # What is set beside an option that there is.
    assert conform "config" parts.options settings == settings;
    assert parts.config._type == "if";
    conform "config" nixos (if parts.config.condition then parts.config.content else { });
}
