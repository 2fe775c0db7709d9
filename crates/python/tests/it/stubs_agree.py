"""Compares the stubs with the classes that scripts get; raises with every difference."""

import ast
import importlib
import inspect
import pathlib

EMPTY = inspect.Parameter.empty
differences = []


def names_of(body):
    """The public names that statements define, with their nodes."""
    found = {}
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            found[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node
    return {name: node for name, node in found.items() if not name.startswith("_")}


def stub_signature(node):
    """Parameters as (name, kind, default), as `inspect` would have them."""
    arguments = node.args
    positional = arguments.posonlyargs + arguments.args
    padding = [None] * (len(positional) - len(arguments.defaults))
    parameters = []
    for argument, default in zip(positional, padding + arguments.defaults):
        value = EMPTY if default is None else ast.literal_eval(default)
        parameters.append((argument.arg, "POSITIONAL_OR_KEYWORD", value))
    if arguments.vararg:
        parameters.append((arguments.vararg.arg, "VAR_POSITIONAL", EMPTY))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults):
        value = EMPTY if default is None else ast.literal_eval(default)
        parameters.append((argument.arg, "KEYWORD_ONLY", value))
    return [parameter for parameter in parameters if parameter[0] != "self"]


def runtime_signature(function):
    parameters = inspect.signature(function).parameters.values()
    found = []
    for parameter in parameters:
        if parameter.name == "self":
            continue
        kind = parameter.kind.name.replace("POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD")
        found.append((parameter.name, kind, parameter.default))
    return found


def compare(place, stub, runtime):
    # Types too: 1 == 1.0 == True.
    if repr(stub) != repr(runtime):
        differences.append(f"{place}: the stub has {stub}, the class {runtime}")


def compare_class(place, node, runtime):
    bases = [base.id for base in node.bases if isinstance(base, ast.Name)] or ["object"]
    compare(f"bases of {place}", bases, [base.__name__ for base in runtime.__bases__])
    members = names_of(node.body)
    exists = {name for name in vars(runtime) if not name.startswith("_")}
    compare(f"members of {place}", sorted(members), sorted(exists))
    for name in sorted(exists & set(members)):
        member, stub = vars(runtime)[name], members[name]
        is_property = any(getattr(d, "id", "") == "property" for d in stub.decorator_list)
        compare(f"{place}.{name} is a property", is_property, inspect.isdatadescriptor(member))
        if not is_property:
            compare(f"{place}.{name}", stub_signature(stub), runtime_signature(member))


def compare_parallel(place, node, module):
    """The methods that can be called in parallel are the machine's, with the same parameters."""
    members = names_of(node.body)
    compare(f"members of {place}", sorted(members), sorted(module.Parallel.__methods__))
    for name, stub in members.items():
        compare(f"{place}.{name}", stub_signature(stub), runtime_signature(getattr(module.BaseMachine, name)))


def compare_module(path, root):
    parts = list(path.relative_to(root).with_suffix("").parts)
    name = ".".join(part for part in parts if part != "__init__")
    module = importlib.import_module(name)
    stubs = names_of(ast.parse(path.read_text()).body)
    exists = {n for n, v in vars(module).items() if not n.startswith("_") and not inspect.ismodule(v)}
    compare(f"names of {name}", sorted(stubs), sorted(exists))
    for known in sorted(exists & set(stubs)):
        node, value = stubs[known], getattr(module, known)
        if isinstance(node, ast.ClassDef):
            compare(f"module of {name}.{known}", name, value.__module__)
            if known == "Parallel":
                compare_parallel(f"{name}.{known}", node, module)
                continue
            compare_class(f"{name}.{known}", node, value)
        elif isinstance(node, ast.FunctionDef):
            compare(f"{name}.{known}", stub_signature(node), runtime_signature(value))
        else:
            compare(f"{name}.{known}", node.value.id, value.__name__)


def main(root):
    paths = sorted(pathlib.Path(root).rglob("*.pyi"))
    assert len(paths) >= 7, paths
    for path in paths:
        if path.name == "script.pyi":
            continue  # The names of a running script; a test of `cli` compares them.
        compare_module(path, pathlib.Path(root))
    if differences:
        raise AssertionError("\n".join(differences))
