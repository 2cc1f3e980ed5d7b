"""A real ``nflae serve`` in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from types import TracebackType

from tests.warm_python import WarmProgram


class LiveServer:
    """Starts ``nflae serve`` and waits until it listens; a context manager that stops it.

    bind: one address; with ``*`` as port the system chooses one. address: where it listens. lines: its log so far.
    """

    def __init__(self, *arguments: object, bind: str = "tcp://127.0.0.1:*") -> None:
        self.process = WarmProgram("serve", "--bind", bind, *arguments)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.address = re.findall(r"address=(\S+)", self.wait_for("event=listening"))[0]

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def wait_for(self, text: str, seconds: float = 120.0) -> str:
        """The first line of the log with ``text``, waited for."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for line in list(self.lines):
                if text in line:
                    return line
            if self.process.poll() is not None and not self._reader.is_alive():
                break
            time.sleep(0.01)
        raise AssertionError(f"no {text!r} in the server's log: {self.lines}")

    def memory(self) -> int:
        """Resident bytes."""
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it and wait; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(60)
        self._reader.join(60)
        return status

    def __enter__(self) -> LiveServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        assert self.process.stderr is not None
        self.process.stderr.close()
