"""The live view of a real ``nflae serve`` and ``nflae stream``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import zmq

from nflae_bridge import Client, precode
from nflae_bridge.live.log import EventLog
from nflae_bridge.live.view.address import ViewSettings
from nflae_bridge.live.view.constellation import send_constellation
from nflae_bridge.live.view.latency import LatencyHistogram
from nflae_bridge.live.view.sampler import Sample
from nflae_bridge.live.view.view import View
from simulator.geometry.panels import UniformPlanarArray, spherical_wave
from tests.channel_files import random_channels
from tests.nflae_bridge.live.gnuradio.test_flowgraphs import Streaming, free_address
from tests.nflae_bridge.live.live_server import LiveServer
from tests.nflae_bridge.live.view.browser import Browser
from tests.nflae_bridge.live.view.events import Events
from tests.sockets import bounded_context
from tests.warm_python import run_warm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def viewed() -> Iterator[LiveServer]:
    with LiveServer("--http", "127.0.0.1:*", "--http-array", "line:30") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as running:
        yield running


def url_of(lines: list[str]) -> str:
    return next(found[1] for line in lines if (found := re.search(r"event=live_view url=(\S+)", line)))


@pytest.mark.parametrize("convention", ["hermitian", "direct"])
def test_drops_of_a_server(viewed: LiveServer, convention: str) -> None:
    channels = random_channels(3, 4, 32)
    sent = channels if convention == "hermitian" else channels.conj()
    with Events(url_of(viewed.lines)) as page, Client(viewed.address, timeout=60) as client:
        page.next("status")
        result = client.precode(sent, noise_power=0.02, convention=convention)  # type: ignore[arg-type]
        drop = page.next("drop", lambda drop: len(drop["users"]) == 4)
        assert [user["rate"] for user in drop["users"]] == pytest.approx(result.rate[-1], rel=1e-4)
        assert [user["power"] for user in drop["users"]] == pytest.approx(result.power[-1], rel=1e-4)
        assert (drop["scheme"], drop["model"], drop["noise_power"]) == ("nflae", "tiny", 0.02)
        assert drop["map"]["antennas"] == 32
        client.precode(sent[:, :3], noise_power=0.02, convention=convention, want=["precoder", "power"])  # type: ignore[arg-type]
        drop = page.next("drop", lambda drop: len(drop["users"]) == 3)
        expected = client.precode(channels[:, :3], noise_power=0.02).rate[-1]
        assert [user["rate"] for user in drop["users"]] == pytest.approx(expected, rel=1e-3)


def test_a_drop_reaches_an_open_page_within_a_second(viewed: LiveServer) -> None:
    """By the program's own clock, whatever delays the page: with the second state after the answer at the latest."""
    with Events(url_of(viewed.lines)) as page, Client(viewed.address, timeout=60) as client:
        page.next("status")
        client.precode(random_channels(1, 7, 64))
        answered = client.status()["uptime_s"]
        later: list[float] = []
        name, content = page.read()
        while name != "drop" or len(content["users"]) != 7:
            if name == "status" and content["uptime_s"] > answered:
                later.append(content["uptime_s"])
            name, content = page.read()
        assert len(later) <= 2
        times: set[float] = set()
        while len(times) < 5:
            times.add(page.next("status")["uptime_s"])
    assert min(np.diff(sorted(times))) < 0.9


def test_drops_in_shared_memory(viewed: LiveServer) -> None:
    channels = random_channels(600, 5, 128)
    with Events(url_of(viewed.lines)) as page, Client(viewed.address, timeout=60) as client:
        page.next("status")
        rates = client.precode(channels, scheme="rzf").rate[-1]
        drop = page.next("drop", lambda drop: len(drop["users"]) == 5)
        assert client.status()["shared_memory"]["segments"]
    assert [user["rate"] for user in drop["users"]] == pytest.approx(rates, rel=1e-4)


def test_state_of_a_server(viewed: LiveServer) -> None:
    with Events(url_of(viewed.lines)) as page, Client(viewed.address, timeout=60) as client:
        answered = client.status()["counts"]["answered"]
        client.precode(random_channels(1))
        state = page.next("status", lambda state: state["counts"]["answered"] == answered + 1)
    assert (state["program"], state["model"], state["device"]) == ("nflae serve", "tiny", "cpu")
    assert (state["queue_depth"], state["queue_limit"]) == (0, 1024)
    assert sum(state["latency"]["counts"]) == answered + 1
    assert state["latency"]["us"]["p50"] > 0


def test_a_port_in_use_ends_a_server_with_one_line(viewed: LiveServer) -> None:
    port = url_of(viewed.lines).rpartition(":")[2].strip("/")
    done = run_warm("serve", "--bind", "tcp://127.0.0.1:*", "--http", f"127.0.0.1:{port}", timeout=120)
    assert done.returncode == 1
    assert done.stderr == f"nflae: error: --http 127.0.0.1:{port}: address already in use; give another port\n"


def test_items_of_a_stream() -> None:
    csi, precoders = free_address(), free_address()
    channels = random_channels(3, 4, 16)
    arguments = ["--users", 4, "--antennas", 16, "--csi", f"pull:{csi},bind", "--precoders", f"push:{precoders}"]
    running = Streaming(*arguments, "--scheme", "rzf", "--http", "127.0.0.1:*")
    try:
        running.wait_ready()
        with (
            Events(url_of(running.lines)) as page,
            bounded_context() as context,
            context.socket(zmq.PUSH) as source,
            context.socket(zmq.PULL) as sink,
        ):
            page.next("status")
            source.connect(csi)
            sink.connect(precoders)
            source.send(channels.tobytes())
            assert sink.poll(60_000)
            drop = page.next("drop", lambda drop: len(drop["users"]) == 4)
            state = page.next("status", lambda state: state["counts"]["sent"] == 3)
        expected = precode(channels, scheme="rzf").rate[-1]
        assert [user["rate"] for user in drop["users"]] == pytest.approx(expected, rel=1e-4)
        assert len(drop["pattern"]["curves"]) == 4
        assert (state["program"], state["model"]) == ("nflae stream", "rzf")
        assert sum(state["latency"]["counts"]) == 1
        assert running.stop()["sent"] == 3
    finally:
        running.process.kill()
        running.process.wait()


def test_new_drops_are_drawn_unless_the_page_is_paused(viewed: LiveServer, browser: Browser) -> None:
    shown = "Number(document.body.dataset.drop || 0)"
    with Client(viewed.address, timeout=60) as client:
        browser.open(url_of(viewed.lines))
        browser.wait_for("document.querySelector('#state').innerText.includes('tiny')")
        client.precode(random_channels(1, 4, 64))
        browser.wait_for(f"{shown} > 0")
        for users in (5, 10):
            client.precode(random_channels(1, users, 64))
            browser.wait_for(f"document.querySelectorAll('#rows tr').length === {users}")
        assert browser.run("document.querySelector('#message').innerText") == ""
        send_constellation(url_of(viewed.lines), [1, 1j, -1, -1j], user=3, evm_db=-18.25)
        browser.wait_for("document.querySelector('#evm').innerText === 'user 3, EVM -18.3 dB'")

        browser.click("#pause")
        assert "Paused" in browser.run("document.querySelector('#message').innerText")
        client.precode(random_channels(1, 3, 64))
        with Events(url_of(viewed.lines)) as page:  # another page, after whose second status the first would have it
            page.next("status")
            client.precode(random_channels(1, 2, 64))
            page.next("drop", lambda drop: len(drop["users"]) == 2)
        assert browser.run("document.querySelectorAll('#rows tr').length") == 10
        browser.click("#pause")
        client.precode(random_channels(1, 6, 64))
        browser.wait_for("document.querySelectorAll('#rows tr').length === 6")
        assert browser.errors() == []


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (500, True)])
def test_the_page_in_both_themes_and_two_widths(viewed: LiveServer, browser: Browser, width: int, dark: bool) -> None:
    with Client(viewed.address, timeout=60) as client:
        browser.resize(width, 900, dark)
        browser.open(url_of(viewed.lines))
        browser.wait_for("document.querySelector('#state').innerText.includes('tiny')")
        client.precode(random_channels(1, 4, 64))
        browser.wait_for("document.querySelectorAll('#rows tr').length === 4")  # not a drop of the test before
        assert browser.run("document.documentElement.scrollWidth") <= width
        if width == 500:  # a half circle fills its canvas: no blank above it on small screens
            height = browser.run("document.querySelector('#map').clientHeight")
            half = browser.run("document.querySelector('#map').clientWidth") / 2
            assert 12 <= height - half <= 30
        background = browser.run("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", background))) < 150) == dark
        browser.click("#rows tr:nth-child(2)")
        browser.wait_for("document.querySelector('#beams-title').innerText.includes('user 2')")
        with Events(url_of(viewed.lines)) as page:  # another page, for which the program keeps the last drop
            page.next("status")
            browser.click("#pause")
            browser.click("#rows tr:nth-child(3)")  # the map of this beam does not arrive any more
            assert "user 2" in browser.run("document.querySelector('#beams-title').innerText")
            browser.click("#pause")
            browser.wait_for("document.querySelector('#beams-title').innerText.includes('user 3')")
            client.precode(random_channels(1, 2, 64))
            browser.wait_for("document.querySelectorAll('#rows tr').length === 2")
            assert "all beams" in browser.run("document.querySelector('#beams-title').innerText")
        # The middle of the map is drawn, in colours of the scale: none of the page's.
        pixel = "[...document.getElementById('map').getContext('2d').getImageData({}, {}, 1, 1).data]"
        size = browser.run("[document.getElementById('map').width, document.getElementById('map').height]")
        found = browser.run(pixel.format(size[0] // 2, size[1] // 2))
        assert found[3] == 255
        assert browser.errors() == []


def test_users_of_a_panel_are_marked_by_azimuth_and_elevation(browser: Browser) -> None:
    """The brightest place of each beam on the screen, in degrees, is the direction of its user."""
    azimuth, elevation = np.array([-40.0, 10.0, 35.0]), np.array([20.0, -35.0, -5.0])
    u, v = np.sin(np.radians(azimuth)) * np.cos(np.radians(elevation)), -np.sin(np.radians(elevation))
    direction, distance = torch.from_numpy(np.stack([u, v], -1)), torch.tensor([0.2, 90.0, 0.25])
    channels = spherical_wave(UniformPlanarArray(8, 16, carrier=30e9), direction, distance).numpy()[None]
    brightest = """(() => {
        const canvas = document.getElementById('map'), box = [44, 26, canvas.width - 64, canvas.height - 64];
        const pixels = canvas.getContext('2d').getImageData(...box).data, sum = [0, 0, 0];
        for (let pixel = 0; pixel < box[2] * box[3]; pixel++)
            if (pixels[4 * pixel] > 230 && pixels[4 * pixel + 1] > 210 && pixels[4 * pixel + 2] < 90) {
                sum[0] += pixel % box[2], sum[1] += Math.floor(pixel / box[2]), sum[2] += 1;
            }
        return [180 * sum[0] / sum[2] / box[2] - 90, 90 - 180 * sum[1] / sum[2] / box[3]];
    })()"""
    found = precode(channels, scheme="mrt")
    sample = Sample(channels, {"precoder": found.precoder, "power": found.power, "rate": found.rate}, 0.01)
    status = lambda: {"program": "test", "counts": {}, "uptime_s": 1, "latency": LatencyHistogram().describe()}  # noqa: E731
    view = View(ViewSettings("127.0.0.1:*", array="panel:8x16:30"), status, EventLog("error"))
    view.start()
    url = f"http://127.0.0.1:{view.port}/"
    with Events(url):  # another page, for which the program keeps the last drop
        browser.resize(1200, 900)
        browser.open(url)
        browser.wait_for("document.querySelector('#state').innerText.includes('test')")
        view.sampler.offer(sample)
        browser.wait_for("document.querySelectorAll('#rows tr').length === 3")
        labels = browser.run("[...document.querySelectorAll('#rows tr td:nth-child(2)')].map((cell) => cell.innerText)")
        assert [re.findall(r"[\d.]+ m", label) for label in labels] == [["0.2 m"], [], ["0.25 m"]]
        for user in range(3):
            browser.click(f"#rows tr:nth-child({user + 1})")
            browser.wait_for(f"document.querySelector('#beams-title').innerText.endsWith('user {user + 1}')")
            assert browser.run(brightest) == pytest.approx([azimuth[user], elevation[user]], abs=6)
        view.sampler.offer(replace(sample, channels=channels[..., :64]))
        browser.wait_for("document.querySelector('#legend').innerText.includes('the channels 64: no beams are drawn')")
        assert [error for error in browser.errors() if "willReadFrequently" not in error] == []  # of `brightest`
