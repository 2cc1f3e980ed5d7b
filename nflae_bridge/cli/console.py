"""Start the command line ``nflae`` so that a signal ends it at once, until a command handles signals itself."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_SLOW = "torch"


def main() -> None:
    """Run the command line; a signal before or during the import of a slow package ends the process by that signal.

    A command that a signal has interrupted ends without the shutdown of the interpreter, which takes over a second
    of CPU time where PyTorch is loaded; its files are closed and its outputs removed by then.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored, as in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.meta_path.insert(0, _SlowImport())
    from nflae_bridge.cli.failure import failed_by_signal
    from nflae_bridge.cli.group import main

    try:
        main(prog_name="nflae")
    except SystemExit as end:
        if failed_by_signal():
            with suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(end.code if isinstance(end.code, int) else 1)
        raise


class _SlowImport(importlib.abc.MetaPathFinder):
    """Import PyTorch with the default effect of signals.

    Its libraries take seconds to load on a busy machine, in single calls during which Python runs no handler. No output
    is open then but a temporary file, which the next run deletes.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return PyTorch's own specification, whose loader leaves signals at their defaults; None for other names."""
        if fullname != _SLOW or threading.current_thread() is not threading.main_thread():
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            sys.meta_path.insert(0, self)  # looking for a package does not import it
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                with _default_signals():
                    load(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


@contextmanager
def _default_signals() -> Iterator[None]:
    before: dict[int, Any] = {number: signal.getsignal(number) for number in _SIGNALS}
    changed = [number for number, handler in before.items() if callable(handler)]
    for number in changed:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, before[number])
