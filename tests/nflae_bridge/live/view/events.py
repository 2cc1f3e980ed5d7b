"""A reader of the events of a live view."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit


class Events:
    """An open page without a browser; a context manager that closes it."""

    def __init__(self, url: str, query: str = "") -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        self._connection.request("GET", f"/events{query}")
        self.answer = self._connection.getresponse()

    def read(self) -> tuple[str, dict[str, Any]]:
        """The next event of any kind, and its content."""
        name = self.answer.readline().decode().strip().removeprefix("event: ")
        content: dict[str, Any] = json.loads(self.answer.readline().decode().removeprefix("data: "))
        assert self.answer.readline() == b"\n"
        return name, content

    def next(self, kind: str, condition: Callable[[dict[str, Any]], bool] = lambda content: True) -> dict[str, Any]:
        """The next event of a kind that meets a condition; each wait for a line ends after 60 s."""
        for _ in range(2000):
            name, content = self.read()
            if name == kind and condition(content):
                return content
        raise AssertionError(f"no such {kind} in 2000 events")

    def __enter__(self) -> Events:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.answer.close()
        self._connection.close()
