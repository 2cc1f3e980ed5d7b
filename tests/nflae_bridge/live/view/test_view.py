"""The HTTP side of the live view: tokens, methods, bounded pages, slow readers, pauses, probes."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from matlab_io.errors import NflaeError
from nflae_bridge.live.log import EventLog
from nflae_bridge.live.view import http, picture
from nflae_bridge.live.view import view as view_module
from nflae_bridge.live.view.address import ViewSettings
from nflae_bridge.live.view.constellation import send_constellation
from nflae_bridge.live.view.latency import LatencyHistogram
from nflae_bridge.live.view.sampler import Sample
from nflae_bridge.live.view.view import View
from tests.nflae_bridge.live.view.events import Events

TOKEN = "a-long-secret"
Make = Callable[..., View]


@pytest.fixture
def make() -> Make:
    """Opens views on free ports; their threads end with the process."""

    def opened(**settings: Any) -> View:
        status = lambda: {"program": "test", "latency": LatencyHistogram().describe()}  # noqa: E731
        view = View(ViewSettings(**{"address": "127.0.0.1:*", **settings}), status, EventLog("error"))
        view.start()
        return view

    return opened


def url(view: View) -> str:
    return f"http://127.0.0.1:{view.port}"


def status_of(request: str | urllib.request.Request) -> int:
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, f"60 s without {what}"
        time.sleep(0.01)


def sample(users: int = 2, antennas: int = 8, seed: int = 0) -> Sample:
    parts = np.random.default_rng(seed).normal(size=(2, 1, users, antennas))
    beams = (parts[0] + 1j * parts[1]).astype(np.complex64)
    return Sample(beams, {"precoder": beams, "power": np.ones((1, users))}, 0.1)


def test_the_page_loads_nothing_from_elsewhere(make: Make) -> None:
    with urllib.request.urlopen(url(make()), timeout=60) as answer:
        text, policy = answer.read().decode(), answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "EventSource" in text
    assert "--back:" in text
    for outside in ("http://", "https://", "//cdn", "src=", "@import"):
        assert outside not in text


def test_tokens(make: Make) -> None:
    view = make(token=TOKEN)
    for path in ("/", "/events", "/elsewhere"):
        for query in ("", "?token=", "?token=a-long-secreT", f"?token={TOKEN}x", "?token=%C3%A4"):
            assert status_of(url(view) + path + query) == 401
    assert status_of(f"{url(view)}/?token={TOKEN}") == 200
    assert status_of(urllib.request.Request(url(view), headers={"Authorization": f"Bearer {TOKEN}"})) == 200
    assert status_of(urllib.request.Request(url(view), headers={"Authorization": "Bearer no"})) == 401
    with Events(url(view), f"?token={TOKEN}") as page:
        assert page.next("status")["program"] == "test"
    with pytest.raises(NflaeError, match=r"refused \(401\): add \?token=TEXT"):
        send_constellation(url(view), [1, 1j])
    send_constellation(url(view), [1, 1j], token=TOKEN)


def test_names_that_are_not_of_the_loopback_are_refused_without_a_token(make: Make) -> None:
    view = make()
    for host in ("evil.example", "evil.example:80", "192.0.2.1", "", "127.0.0.1.evil.example", "["):
        assert status_of(urllib.request.Request(url(view), headers={"Host": host})) == 403
    for host in ("localhost", f"127.0.0.1:{view.port}", "[::1]:80"):
        assert status_of(urllib.request.Request(url(view), headers={"Host": host})) == 200


def test_the_view_is_read_only(make: Make) -> None:
    view = make()
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "POST"):
        assert status_of(urllib.request.Request(url(view), b"x", method=method)) == 405
    assert status_of(urllib.request.Request(url(view), method="HEAD")) == 200
    assert status_of(f"{url(view)}/../etc/passwd") == 404


@pytest.mark.parametrize(
    ("body", "headers", "query", "status"),
    [
        (b"x" * 8, {"Content-Type": "text/plain"}, "", 415),
        (b"x" * 7, {}, "", 400),
        (b"", {}, "", 400),
        (np.array([np.nan], "<c8").tobytes(), {}, "", 400),
        (b"\0" * 8, {}, "?evm_db=loud", 400),
        (b"\0" * 8, {}, "?evm_db=inf", 400),
        (b"\0" * 8, {}, "?user=0", 400),
        (b"\0" * 8, {}, "?user=1.5", 400),
        (b"\0" * 8, {}, "?user=1e30", 400),
        (b"\0" * 8 * 4097, {}, "", 413),
        (b"\0" * 8, {"Content-Length": "-1"}, "", 413),
        (b"\0" * 8 * 4096, {}, "?evm_db=-20&user=3", 204),
    ],
)
def test_symbols_of_probes(make: Make, body: bytes, headers: dict[str, str], query: str, status: int) -> None:
    view = make()
    headers = {"Content-Type": "application/octet-stream"} | headers
    request = urllib.request.Request(f"{url(view)}/constellation{query}", body, headers)
    assert status_of(request) == status
    assert (view.constellation is not None) == (status == 204)


def test_symbols_reach_the_page(make: Make) -> None:
    view = make()
    with Events(url(view)) as page:
        send_constellation(url(view), np.array([[0.5 - 1j], [0.25]]), user=2, evm_db=-21.5)
        found = page.next("constellation")
    assert found == {"points": [[0.5, -1.0], [0.25, 0.0]], "user": 2, "evm_db": -21.5}


@pytest.mark.parametrize(
    "address", ["https://127.0.0.1:1", "127.0.0.1:1", "http://", "http://[", "http://a:70000", "http://a b"]
)
def test_a_probe_names_a_malformed_url(address: str) -> None:
    with pytest.raises(NflaeError, match="give http://HOST:PORT"):
        send_constellation(address, [1])


@pytest.mark.parametrize(
    ("symbols", "options", "message"),
    [
        (None, {}, "symbols must be an array of numbers"),
        (["x"], {}, "symbols must be an array of numbers"),
        ([1e300], {}, "the symbols must be finite"),
        ([1j], {"token": "a\nb"}, "token must be that of --http-token"),
        ([1j], {"token": "\u20ac"}, "token must be that of --http-token"),
    ],
)
def test_a_probe_refuses_what_it_cannot_send(symbols: Any, options: dict[str, str], message: str) -> None:
    with pytest.raises(NflaeError, match=message):
        send_constellation("http://127.0.0.1:1", symbols, **options)


def test_a_probe_without_a_view_says_so(free_port: int) -> None:
    with pytest.raises(NflaeError, match=f"http://127.0.0.1:{free_port}: no live view answers"):
        send_constellation(f"http://127.0.0.1:{free_port}", [1])


def test_answers_are_kept_while_a_page_is_open_only(make: Make) -> None:
    """The pause button closes the events: the program then offers nothing."""
    view = make()
    assert not view.sampler.is_open
    with Events(url(view)) as page:
        page.next("status")
        assert view.sampler.is_open
        view.sampler.offer(sample())
        first = page.next("drop")
        view.sampler.offer(sample(3))
        assert len(page.next("drop")["users"]) == 3
        assert first["number"] == 1
    until(lambda: not view.sampler.is_open, "the end of the page")
    assert view.sampler.take() is None
    until(lambda: view._picture is None, "the end of the last drop")
    with Events(url(view)) as page:  # an earlier drop is not the last one any more
        view.sampler.offer(sample(4))
        assert len(page.next("drop")["users"]) == 4


def test_the_newest_of_many_answers_is_shown(make: Make) -> None:
    view = make()
    with Events(url(view)) as page:
        page.next("status")
        for users in range(2, 40):
            view.sampler.offer(sample(users))
        page.next("drop", lambda drop: len(drop["users"]) == 39)


def test_pages_are_bounded(make: Make) -> None:
    view = make()
    with ExitStack() as stack:
        pages = [stack.enter_context(Events(url(view))) for _ in range(http.MAX_CONNECTIONS)]
        for page in pages:
            page.next("status")
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"{url(view)}/events", timeout=60)
        assert status_of(url(view)) == 200
        pages[3].__exit__(None, None, None)
        until(lambda: status_of_events(view) == 200, "room for a page")
        view.sampler.offer(sample())
        assert pages[0].next("drop")["number"] == 1


def status_of_events(view: View) -> int:
    with Events(url(view)) as page:
        return page.answer.status


def test_a_page_that_reads_nothing_is_closed_and_delays_no_other(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http.Handler, "timeout", 0.5)
    monkeypatch.setattr(view_module, "_INTERVAL", 0.01)
    view = make(array="line:30")
    view.http.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with socket.socket() as silent, Events(url(view)) as page:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.connect(("127.0.0.1", view.port))
        silent.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: len(view.http._kept) == 2, "both pages")
        for number in range(2000):
            view.sampler.offer(sample(seed=number))
            page.next("drop")
            if len(view.http._kept) == 1:
                break
        assert len(view.http._kept) == 1


def test_a_fault_of_the_drawing_does_not_end_the_view(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError

    view = make()
    with Events(url(view)) as page:
        with monkeypatch.context() as patch:
            patch.setattr(view_module, "picture_of", fail)
            view.sampler.offer(sample())
            until(lambda: not view.sampler._samples, "the end of the first drawing")
            page.next("status")
            page.next("status")
        view.sampler.offer(sample(5))
        assert len(page.next("drop")["users"]) == 5


def test_maps_of_one_user(make: Make) -> None:
    view = make(array="line:3.5")
    with Events(url(view), "?user=2") as second, Events(url(view), "?user=9") as absent:
        for page in (second, absent):
            page.next("status")
        view.sampler.offer(sample())
        assert second.next("drop")["map"]["user"] == 1
        assert absent.next("drop")["map"]["user"] is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"address": "8080"}, "not HOST:PORT"),
        ({"address": "example.org:8080"}, "not HOST:PORT"),
        ({"address": "127.0.0.1:0"}, "port must be 1 to 65535"),
        ({"address": "127.0.0.1:99999"}, "port must be 1 to 65535"),
        ({"address": "0.0.0.0:8080"}, "--http 0.0.0.0:8080: other machines reach this address; add --http-token TEXT"),
        ({"address": "[::]:8080"}, "add --http-token TEXT"),
        ({"address": "127.0.0.1:1", "token": "short"}, "--http-token must have 8 to 256"),
        ({"address": "127.0.0.1:1", "token": "with a space"}, "--http-token must have 8 to 256"),
        ({"address": "127.0.0.1:1", "array": "line"}, "give line:GHZ or panel:ROWSxCOLUMNS:GHZ"),
        ({"address": "127.0.0.1:1", "array": "panel:4x16"}, "give line:GHZ or panel:ROWSxCOLUMNS:GHZ"),
        ({"address": "127.0.0.1:1", "array": "panel:0x16:30"}, "give line:GHZ or panel:ROWSxCOLUMNS:GHZ"),
        ({"address": "127.0.0.1:1", "array": "panel:4x16:0"}, "carrier must be positive"),
        ({"address": "127.0.0.1:1", "array": "line:0"}, "carrier must be positive"),
        ({"address": 8080}, "address must be"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(NflaeError, match=message.replace(".", r"\.")) as raised:
        ViewSettings(**settings)
    assert "\n" not in str(raised.value)


def test_addresses() -> None:
    assert ViewSettings("localhost:80").host == "127.0.0.1"
    assert ViewSettings("[::1]:80").host == "::1"
    assert ViewSettings("[::1]:80").is_local
    assert not ViewSettings("192.0.2.7:80", TOKEN).is_local
    assert ViewSettings("127.0.0.1:1", array="line:30").wavelength == pytest.approx(0.00999308)
    assert ViewSettings("127.0.0.1:1", array="line:30").panel is None
    assert ViewSettings("127.0.0.1:1", array="panel:4x16:30").wavelength == pytest.approx(0.00999308)
    assert ViewSettings("127.0.0.1:1", array="panel:4x16:30").panel == (4, 16)


def test_a_port_in_use_is_named(make: Make) -> None:
    port = make().port
    with pytest.raises(NflaeError, match=f"--http 127.0.0.1:{port}: address already in use; give another port"):
        make(address=f"127.0.0.1:{port}")
    with pytest.raises(NflaeError, match=r"--http 192\.0\.2\.7:80: .*; give an address of this machine"):
        make(address="192.0.2.7:80", token=TOKEN)  # TEST-NET-1, of no machine


def test_border_of_the_near_field() -> None:
    from simulator.geometry.near_field import beta_threshold

    assert beta_threshold() ** 2 == pytest.approx(picture._BORDER, rel=1e-3)
