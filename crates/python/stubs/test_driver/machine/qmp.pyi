"""QEMU's machine protocol."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, final

class QMPAPIError(Exception):
    """QEMU refused a command."""

    def __init__(self, class_name: str, description: str, transaction_id: str | None = None) -> None: ...
    @property
    def class_name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def transaction_id(self) -> str | None: ...

@final
class QMPEvents:
    """Events as they come."""

    def __iter__(self) -> Iterator[dict[str, Any]]: ...
    def __next__(self) -> dict[str, Any]: ...

@final
class QMPSession:
    """The QMP session of a machine."""

    def send(self, cmd: str, args: Mapping[str, Any] = {}) -> dict[str, Any]: ...
    def wait_for_event(self, timeout: timedelta | float = 10) -> dict[str, Any]: ...
    def events(self, timeout: timedelta | float = 10) -> QMPEvents: ...
