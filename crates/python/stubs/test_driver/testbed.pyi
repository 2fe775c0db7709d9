"""All machines and VLANs of the test, and the moments that it can go back to."""

from typing import Literal, final

@final
class Testbed:
    """All machines and VLANs of the test."""

    def checkpoint(self, name: str) -> None:
        """Saves all machines that run, and their network, at one instant; `hotbed run --keep-checkpoints` keeps that for later runs."""

    def rollback(self, name: str) -> None: ...
    def forget(self, name: str) -> bool: ...
    def checkpoints(self) -> list[str]: ...
    def fork(self) -> Fork: ...

@final
class Fork:
    """A part of the test after which all machines are as they were before."""

    def __enter__(self) -> Fork: ...
    def __exit__(self, *error: object) -> Literal[False]: ...
