"""Serve HTTP from a few threads, to a bounded number of connections of bounded duration."""

from __future__ import annotations

import contextlib
import errno
import socket
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from matlab_io.errors import NflaeError

MAX_CONNECTIONS = 8
"""Largest number of connections that are answered at once, and of those that are kept."""
MAX_SECONDS = 5.0
"""Longest duration of a connection that is not kept, and longest wait for its client, s."""


class Handler(BaseHTTPRequestHandler):
    """Handle one request per connection; the base of all handlers."""

    server: HttpServer
    timeout = MAX_SECONDS

    def answer(self, status: int, kind: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Send a complete answer.

        Parameters
        ----------
        status : int
            Status code.
        kind : str
            Content type.
        body : bytes
            Content.
        headers : dict, optional
            Further headers.
        """
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *values: Any) -> None:
        """Write nothing: the log is for requests of precoders."""


class HttpServer(socketserver.ThreadingMixIn, HTTPServer):
    """Serve HTTP; the oldest connection makes room for a new one, and none lasts long unless it is kept.

    Parameters
    ----------
    option : str
        Option that states the address, for the error.
    host : str
        IP address, or ``localhost``.
    port : int
        TCP port; 0 for any free one.
    handler : type of Handler
        Handler of the requests.

    Raises
    ------
    NflaeError
        If the address cannot be bound.
    """

    daemon_threads = True
    request_queue_size = 64  # Python's own 5 delays the next of as many connections at once by a second and more
    block_on_close = False

    def __init__(self, option: str, host: str, port: int, handler: type[Handler]) -> None:
        self._connections: dict[socket.socket, float] = {}
        self._kept: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), handler)
        except OSError as error:
            raise _unusable(option, error) from None

    def server_bind(self) -> None:
        """Bind without the look-up of the host's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def start(self, name: str) -> None:
        """Serve from a thread of this name."""
        threading.Thread(target=self.serve_forever, name=name, daemon=True).start()

    def keep(self, request: socket.socket) -> bool:
        """Exempt a connection from the limits; return False where as many as may be are kept already."""
        with self._lock:
            if len(self._kept) >= MAX_CONNECTIONS or self._connections.pop(request, None) is None:
                return False
            self._kept.add(request)
            return True

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start the thread of a connection.

        Parameters
        ----------
        request : socket.socket
            Connection.
        client_address : tuple
            Address of the client.
        """
        with self._lock:
            while len(self._connections) >= MAX_CONNECTIONS:
                self._end(next(iter(self._connections)))
            self._connections[request] = time.monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """End the connections that have lasted too long; called twice a second."""
        with self._lock:
            for request, began in list(self._connections.items()):
                if time.monotonic() - began > MAX_SECONDS:
                    self._end(request)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._connections.pop(request, None)
            self._kept.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Write nothing: the connection was ended, by its client or by this server.

        Parameters
        ----------
        request : socket.socket
            Connection.
        client_address : tuple
            Address of the client.
        """

    def _end(self, request: socket.socket) -> None:
        del self._connections[request]
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)  # its thread reads the end of the request and closes it


def check_port(option: str, host: str, port: int) -> None:
    """Check that a port can be bound; no connection is accepted.

    Parameters
    ----------
    option : str
        Option and value that name the port, for the message.
    host : str
        IP address.
    port : int
        TCP port; 0 for any free one.

    Raises
    ------
    NflaeError
        If it cannot be bound.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            raise _unusable(option, error) from None


def _unusable(option: str, error: OSError) -> NflaeError:
    reason = (error.strerror or str(error)).lower()
    remedy = "an address of this machine" if error.errno == errno.EADDRNOTAVAIL else "another port"
    return NflaeError(f"{option}: {reason}; give {remedy}")
