"""Headless Chromium, driven by ChromeDriver over W3C WebDriver."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from types import TracebackType
from typing import Any

import pytest

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]


class Browser:
    """A window of Chromium; a context manager that closes it. Skips where it is missing, and fails if CI is set."""

    def __init__(self, width: int = 1200, height: int = 900) -> None:
        driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
        if driver is None or chromium is None:
            reason = "chromium or chromedriver is not installed: apt-get install chromium chromium-driver"
            assert not os.environ.get("CI"), f"CI is set and {reason}"
            pytest.skip(reason)
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._driver = subprocess.Popen(
            [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._driver.stdout is not None
        port = next(found[1] for line in self._driver.stdout if (found := re.search(r"on port ([1-9]\d*)", line)))
        self._base = f"http://127.0.0.1:{port}/session"
        arguments = [*FLAGS, f"--user-data-dir={self._profile.name}", f"--window-size={width},{height}"]
        options = {"binary": chromium, "args": arguments}
        found = self._call("", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}})
        self._base += f"/{found['sessionId']}"

    def _call(self, path: str, content: dict[str, Any] | None = None, method: str | None = None) -> Any:
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, url: str) -> None:
        self._call("/url", {"url": url})

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        return self._call("/execute/sync", {"script": f"return {script}", "args": []})

    def wait_for(self, script: str, seconds: float = 60.0) -> Any:
        """The first true value of an expression."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := self.run(script):
                return value
            time.sleep(0.02)
        raise AssertionError(
            f"{script} remained false for {seconds} s; the page: {self.run('document.body.innerText')}"
        )

    def click(self, selector: str) -> None:
        self.run(f"document.querySelector({selector!r}).click()")

    def resize(self, width: int, height: int, dark: bool = False) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._chromium("Emulation.setDeviceMetricsOverride", size)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._chromium("Emulation.setEmulatedMedia", {"features": [theme]})

    def screenshot(self) -> bytes:
        """The page as PNG."""
        found = self._chromium("Page.captureScreenshot", {"captureBeyondViewport": True})
        return base64.b64decode(found["data"])

    def errors(self) -> list[str]:
        """What the page has written to the console."""
        return [entry["message"] for entry in self._call("/se/log", {"type": "browser"})]

    def _chromium(self, command: str, parameters: dict[str, Any]) -> Any:
        return self._call("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call("", method="DELETE")
        self._driver.terminate()
        self._driver.wait(60)
        assert self._driver.stdout is not None
        self._driver.stdout.close()
        self._profile.cleanup()
