"""Exceptions that machines raise."""

class MachineError(Exception):
    """A machine did what no test asked for, such as a QEMU that exits."""

class RequestedAssertionFailed(AssertionError):
    """What the test demands is not so."""
