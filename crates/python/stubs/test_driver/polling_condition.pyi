"""What must hold all the time while a part of the test runs."""

from datetime import timedelta
from typing import Literal, TypeAlias, final

_Duration: TypeAlias = timedelta | float

class PollingConditionError(Exception):
    """What must hold all the time does not."""

@final
class PollingCondition:
    """What must hold while the block of a `with` statement runs."""

    @property
    def description(self) -> str: ...
    def check(self, force: bool = False) -> bool: ...
    def maybe_raise(self) -> None: ...
    def wait(self, timeout_seconds: _Duration | None = None, timeout: _Duration | None = None) -> None: ...
    def __enter__(self) -> PollingCondition: ...
    def __exit__(self, *error: object) -> Literal[False]: ...
