"""Run calls in a thread, so that signals, peers and the log are served while one of them takes its time."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable
from typing import Any

import zmq


class Worker:
    """Run one call at a time; a poller is woken at its end.

    The thread does not keep the program from ending: a call that is not over by then is abandoned.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._outcome: tuple[Any, BaseException | None] | None = None
        self._wake, self._woken = socket.socketpair()
        self.busy = False
        self._thread = threading.Thread(target=self._run, name="nflae-stream-worker", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """True if the call is over and its result not yet taken."""
        return self._outcome is not None

    def submit(self, call: Callable[[], Any]) -> None:
        """Start a call; only after the result of the last one was taken.

        Parameters
        ----------
        call : callable
            Call without arguments.
        """
        self.busy = True
        self._calls.put(call)

    def result(self) -> Any:
        """Return the result of the call that is over.

        Raises
        ------
        BaseException
            The exception of the call.
        """
        assert self._outcome is not None
        (value, error), self._outcome = self._outcome, None
        self._woken.recv(1)
        self.busy = False
        if error is not None:
            try:
                raise error
            finally:
                del error  # else its traceback, which holds this frame, is kept by it
        return value

    def register(self, poller: zmq.Poller) -> None:
        """Register for the end of the call."""
        poller.register(self._woken, zmq.POLLIN)

    def close(self) -> None:
        """End the thread after its call."""
        self._calls.put(None)
        if not self.busy:
            self._thread.join()
            self._wake.close()
            self._woken.close()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                self._outcome = call(), None
            except BaseException as error:
                self._outcome = None, error
            del call  # with its arrays, before the wait for the next one
            self._wake.send(b"x")
