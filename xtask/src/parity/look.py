# Says of each symbol in the file named by HOTBED_PARITY_ROWS what the running driver makes of it: a test script that boots nothing.
import inspect

from test_driver.machine.qmp import QMPSession

OWNERS = {"Driver": driver, "Logger": log, "VLan": vlan1}
OWNERS |= {kind.__name__: kind for kind in [BaseMachine, QemuMachine, QMPSession]}


def describe(symbol):
    owner, _, name = symbol.rpartition(".")
    if not owner:
        found = globals()[name]
    elif owner not in OWNERS:
        raise AttributeError(owner)
    else:
        kind = OWNERS[owner] if inspect.isclass(OWNERS[owner]) else type(OWNERS[owner])
        found = inspect.getattr_static(kind, name)
    if inspect.ismodule(found) or inspect.isclass(found) or not (owner or inspect.isroutine(found)):
        return type(found).__name__
    if owner and inspect.isdatadescriptor(found):
        return "attribute"
    if callable(found):
        shown = [str(p) for p in inspect.signature(found).parameters.values() if p.name != "self"]
        return f"({', '.join(shown)})"
    return type(found).__name__


for symbol in open(os.environ["HOTBED_PARITY_ROWS"]).read().split():
    try:
        print(f"{symbol}\t{describe(symbol)}")
    except (KeyError, AttributeError):
        pass
