"""Run the live view of a program: sample the last answer, describe it, and send it to the open pages."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from typing import Any

from nflae_bridge.live.log import EventLog
from nflae_bridge.live.view.address import ViewSettings
from nflae_bridge.live.view.handler import ViewHandler
from nflae_bridge.live.view.http import HttpServer
from nflae_bridge.live.view.picture import Picture, picture_of
from nflae_bridge.live.view.sampler import Sampler

_INTERVAL = 0.4  # s between two drops
_REST = 19  # times the time of the last computation, at least: a twentieth of one core at most
_LONGEST_WAIT = 1.0


class View:
    """Serve a page from threads of its own; without an open page only an attribute is read per answer.

    Parameters
    ----------
    settings : ViewSettings
        Address, token, array.
    status : callable
        Returns the state of the program, for JSON; called from a thread of the view.
    log : EventLog
        Log of the address.

    Attributes
    ----------
    sampler : Sampler
        Receives the answers.
    constellation : dict or None
        Last symbols of a probe.
    port : int
        TCP port.

    Raises
    ------
    NflaeError
        If the address cannot be bound.
    """

    def __init__(self, settings: ViewSettings, status: Callable[[], dict[str, Any]], log: EventLog) -> None:
        self.settings = settings
        self.sampler = Sampler()
        self.constellation: dict[str, Any] | None = None
        self._status, self._log = status, log
        self._state: dict[str, Any] = {}
        self._picture: Picture | None = None
        self._drops = self._ticks = 0
        self._ticked = threading.Condition()
        handler = type("Handler", (ViewHandler,), {"view": self})
        self.http = HttpServer(f"--http {settings.address}", settings.host, settings.port, handler)
        self.port = self.http.server_port
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        log.info("live_view", url=f"http://{host}:{self.port}/", token="required" if settings.token else "none")
        if not settings.is_local:
            log.warning("exposed", address=f"{host}:{self.port}", message="the page and its token are not encrypted")

    def start(self) -> None:
        """Start the threads."""
        self.http.start("http")
        threading.Thread(target=self._run, name="live view", daemon=True).start()

    def events(self, user: int | None) -> Generator[tuple[str, Any], None, None]:
        """Yield the events of a page, newest only, while it is open.

        Parameters
        ----------
        user : int or None
            User whose beam alone is on the map, counted from 0.

        Yields
        ------
        name : str
            ``status``, ``drop`` or ``constellation``.
        content : object
            For JSON.
        """
        tick, drop, symbols = 0, 0, None
        with self.sampler.page():
            while True:
                with self._ticked:
                    if self._ticks == tick:
                        self._ticked.wait(_LONGEST_WAIT)
                    tick, number, picture, state = self._ticks, self._drops, self._picture, self._state
                if state:
                    yield "status", state
                if picture is not None and number != drop:
                    drop = number
                    yield "drop", picture.event(user) | {"number": number}
                if self.constellation is not symbols:
                    symbols = self.constellation
                    yield "constellation", symbols

    def _run(self) -> None:
        while True:
            if not self.sampler.is_open:
                self._picture = None  # another page would take it for the last drop
                self.sampler.wait_until_open()
            began = time.thread_time()
            picture = self._next_picture()
            state = self._status()
            with self._ticked:
                self._ticks += 1
                self._state = state
                if picture is not None:
                    self._drops += 1
                    self._picture = picture
                self._ticked.notify_all()
            time.sleep(max(_INTERVAL, _REST * (time.thread_time() - began)))

    def _next_picture(self) -> Picture | None:
        """Describe the last answer; None where there is none since the last call."""
        sample = self.sampler.take()
        if sample is None:
            return None
        try:
            return picture_of(sample, self.settings.wavelength, self.settings.panel)
        except Exception as error:  # of an unforeseen kind of answer: the view goes on with the next one
            self._log.warning("not_shown", message=f"a drop is not shown: {type(error).__name__}: {error}")
            return None
