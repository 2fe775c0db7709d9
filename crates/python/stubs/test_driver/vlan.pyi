"""Emulated Ethernet segments."""

from collections.abc import Iterable
from datetime import timedelta
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeAlias, final

from test_driver.machine import BaseMachine

_Port: TypeAlias = BaseMachine | str
_Delay: TypeAlias = timedelta | float | str

@final
class Change:
    """Something that was changed on a VLAN: undone at the end of the block of a `with` statement, or by `undo`."""

    def undo(self) -> None: ...
    def __enter__(self) -> Change: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]: ...

@final
class Capture:
    """Frames that are being written to a file; `stop` says how many there were."""

    @property
    def path(self) -> Path: ...
    def stop(self) -> int: ...
    def __enter__(self) -> Capture: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]: ...

@final
class Frame:
    """A frame that passed a port; `repr` says what it is. `time` is in seconds since 1970."""

    @property
    def port(self) -> str: ...
    @property
    def is_outgoing(self) -> bool: ...
    @property
    def time(self) -> float: ...
    @property
    def data(self) -> bytes: ...

@final
class Expectation:
    """A frame that must pass before the block of a `with` statement ends, or soon after that; then `frame` is it."""

    @property
    def frame(self) -> Frame: ...
    def __enter__(self) -> Expectation: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]: ...

@final
class Ban:
    """Frames that must not pass: until the block of a `with` statement ends, until it is lifted, or to the end of the test."""

    def lift(self) -> None: ...
    def __enter__(self) -> Ban: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]: ...

@final
class Port:
    """What is plugged into a VLAN, and what went through there."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def frames_in(self) -> int: ...
    @property
    def bytes_in(self) -> int: ...
    @property
    def frames_out(self) -> int: ...
    @property
    def bytes_out(self) -> int: ...
    @property
    def queued(self) -> int: ...
    @property
    def drops(self) -> dict[str, int]: ...

@final
class Station:
    """A network card that has sent something lately; `silent_for` is in seconds."""

    @property
    def address(self) -> str: ...
    @property
    def port(self) -> str: ...
    @property
    def segment(self) -> int: ...
    @property
    def silent_for(self) -> float: ...

@final
class Link:
    """An impaired link, and what happened on it; without a source or target it has the frames from or to all."""

    @property
    def source(self) -> str | None: ...
    @property
    def target(self) -> str | None: ...
    @property
    def frames(self) -> int: ...
    @property
    def lost(self) -> int: ...
    @property
    def down(self) -> int: ...
    @property
    def queue_full(self) -> int: ...
    @property
    def duplicated(self) -> int: ...
    @property
    def corrupted(self) -> int: ...
    @property
    def reordered(self) -> int: ...
    @property
    def waiting(self) -> int: ...

@final
class VLan:
    """One emulated Ethernet segment."""

    @property
    def nr(self) -> int: ...
    def stop(self) -> None: ...
    @property
    def socket_dir(self) -> Path: ...
    @property
    def pid(self) -> int: ...
    def impair(
        self,
        between: Iterable[_Port] | None = None,
        *,
        source: _Port | None = None,
        target: _Port | None = None,
        delay: _Delay | None = None,
        jitter: _Delay | None = None,
        distribution: Literal["uniform", "normal", "pareto"] = "uniform",
        loss: float = 0.0,
        burst: float | None = None,
        duplicate: float = 0.0,
        corrupt: float = 0.0,
        reorder: float = 0.0,
        rate: int | str | None = None,
        down: bool = False,
        seed: int = 0,
    ) -> Change: ...
    def partition(self, *groups: Iterable[_Port]) -> Change: ...
    def heal(self) -> Change: ...
    def ports(self) -> list[Port]: ...
    def stations(self) -> list[Station]: ...
    def links(self) -> list[Link]: ...
    def capture(
        self, path: str | PathLike[str], filter: str | None = None, *, ports: Iterable[_Port] | None = None
    ) -> Capture: ...
    def expect(self, filter: str, within: timedelta | float, *, ports: Iterable[_Port] | None = None) -> Frame: ...
    def expecting(self, filter: str, within: timedelta | float, *, ports: Iterable[_Port] | None = None) -> Expectation: ...
    def forbid(self, filter: str, *, ports: Iterable[_Port] | None = None) -> Ban: ...
