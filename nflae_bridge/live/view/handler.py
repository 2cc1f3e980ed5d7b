"""Answer the requests of the page: the page itself, its stream of events, and the symbols of probes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
from contextlib import closing
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from matlab_io.errors import NflaeError
from nflae_bridge.live.view.constellation import CONTENT_TYPE, MAX_SYMBOLS, read_constellation
from nflae_bridge.live.view.http import MAX_CONNECTIONS, Handler

if TYPE_CHECKING:
    from nflae_bridge.live.view.view import View

_TEXT = "text/plain; charset=utf-8"
_SCRIPTS = ("colours.js", "map.js", "panel.js", "charts.js", "view.js")


@cache
def page() -> tuple[bytes, str]:
    """Return the page with its style and scripts, and the policy that permits these alone."""
    folder = files("nflae_bridge.live.view") / "page"
    style = (folder / "view.css").read_text("utf-8")
    script = "".join((folder / name).read_text("utf-8") for name in _SCRIPTS)
    text = (folder / "index.html").read_text("utf-8")
    text = text.replace("/* view.css */", style).replace("/* scripts */", script)
    sources = {"style-src": style, "script-src": script}
    hashes = {name: base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for name, code in sources.items()}
    policy = ["connect-src 'self'", "img-src data:", *(f"{name} 'sha256-{code}'" for name, code in hashes.items())]
    policy += [f"{name} 'none'" for name in ("default-src", "base-uri", "form-action", "frame-ancestors")]
    return text.encode(), "; ".join(policy)


class ViewHandler(Handler):
    """Handle a request to a live view; `view` is set in the class of each view."""

    view: View

    def do_GET(self) -> None:
        """Answer with the page or with events."""
        target = urlsplit(self.path)
        if not self._is_permitted(target.query):
            return
        if target.path == "/":
            body, policy = page()
            headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
            self.answer(200, "text/html; charset=utf-8", body, headers)
        elif target.path == "/events" and self.command == "GET":
            self._send_events(parse_qs(target.query).get("user", [""])[-1])
        else:
            self._refuse(404, "the page is at /")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Take the symbols of a probe."""
        target = urlsplit(self.path)
        if not self._is_permitted(target.query):
            return
        if target.path != "/constellation":
            self._refuse_method()
            return
        # A page of another site cannot send this type unless it is permitted to, which it is not.
        if self.headers.get("Content-Type") != CONTENT_TYPE:
            self._refuse(415, f"Content-Type must be {CONTENT_TYPE}: complex64 symbols, little-endian")
            return
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal() and int(length[:9]) <= 8 * MAX_SYMBOLS):
            self._refuse(413, f"Content-Length must be at most {8 * MAX_SYMBOLS}")
            return
        try:
            self.view.constellation = read_constellation(target.query, self.rfile.read(int(length)))
        except NflaeError as error:
            self._refuse(400, str(error))
            return
        self.send_response(204)
        self.end_headers()

    def do_PUT(self) -> None:
        """Refuse a method that changes what is served."""
        if self._is_permitted(urlsplit(self.path).query):
            self._refuse_method()

    do_DELETE = do_PATCH = do_OPTIONS = do_PUT

    def _refuse_method(self) -> None:
        self._refuse(405, "the view is read-only: GET / and /events, POST /constellation", {"Allow": "GET, HEAD, POST"})

    def _refuse(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        self.answer(status, _TEXT, f"{reason}\n".encode(), headers)

    def _is_permitted(self, query: str) -> bool:
        """Return whether the token is that of the view, or none is needed; answer the request otherwise."""
        token = self.view.settings.token
        if token is None:
            # Without a token only loopback names are served: another name may be that of a site which resolves to here.
            if _is_loopback_name(self.headers.get("Host", "")):
                return True
            self._refuse(403, "address the live view as 127.0.0.1 or localhost")
            return False
        sent = self.headers.get("Authorization", "").removeprefix("Bearer ") or parse_qs(query).get("token", [""])[-1]
        if hmac.compare_digest(sent.encode(), token.encode()):
            return True
        self._refuse(401, "add ?token=TEXT of --http-token to the URL", {"WWW-Authenticate": "Bearer"})
        return False

    def _send_events(self, user: str) -> None:
        """Send events until the page is closed; a page that does not read them is closed after the timeout."""
        if not self.view.http.keep(self.connection):
            self._refuse(503, f"{MAX_CONNECTIONS} pages are open: close one")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        shown = int(user) - 1 if user.isascii() and user.isdecimal() and len(user) < 4 else None
        with closing(self.view.events(shown)) as events:
            for name, content in events:
                self.wfile.write(_event(name, content))


def _event(name: str, content: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps(content, separators=(',', ':'), allow_nan=False)}\n\n".encode()


def _is_loopback_name(host: str) -> bool:
    """Return whether the Host header names the loopback interface."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
