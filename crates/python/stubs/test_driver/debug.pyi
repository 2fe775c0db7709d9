"""Breakpoints at which somebody can attach to a test that runs in a build's sandbox."""

from typing import final

class DebugAbstract:
    """Breakpoints."""

    def breakpoint(self, host: str = "127.0.0.1", port: int = 4444) -> None: ...

@final
class DebugNop(DebugAbstract):
    """Breakpoints that are not enabled."""

@final
class Debug(DebugAbstract):
    """Breakpoints that are enabled: the script waits in a debugger that listens on a port."""

    def breakpoint(self, host: str = "127.0.0.1", port: int = 4444) -> None: ...
