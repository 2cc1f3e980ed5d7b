"""Measure the answers of `nflae serve` against a raw echo of the same bytes and the engine alone, in one run.

    python -m benchmarks.served -o served.md
    python -m benchmarks.served --device cpu --only one_drop --samples 500

one_drop      one drop through `nflae_bridge.Client`: all arrays; precoder and power; with C3 and C4; of WMMSE
busy_polling  one drop by both links of a client, with and without busy polling of server and client
live_view     one drop at a server with `--http`, with a page open and without, in turns
engine        the engine alone with C3 and C4, one drop
batches       eight clients with 1,024 drops a request, by tcp and by shared memory

Compared quantities take turns. Without a CUDA device the same rows are of the CPU, one thread per process.
"""

from __future__ import annotations

# isort: split  (the module above limits NumPy and PyTorch to one thread before they are imported)
import argparse
import functools
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks.bridge import (
    ANTENNAS,
    CLIENTS,
    USERS,
    Channels,
    dealer,
    processor_seconds,
    rayleigh,
    request,
    running_echo,
    running_server,
)
from benchmarks.parallel_clients import ParallelClients, count_answers
from nflae_bridge import Client
from nflae_bridge.engine.devices import choose_device
from nflae_bridge.engine.engine import Engine
from nflae_bridge.engine.schemes import load_scheme
from nflae_bridge.live.client.links import PlainLink, ZeroMQLink
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, result_arrays

CONSTRAINED = {"alpha_c": 0.4, "min_rate": 0.6}
DROPS_PER_REQUEST = 1024
WARM_UP = 30
ROUNDS = 10
PAUSE_SECONDS = 1e-3
AFTER_PAUSES = "the same with a pause of 1 ms before each call, in which code leaves the caches"
KINDS = ("one_drop", "busy_polling", "live_view", "engine", "batches")
CLIENTS_OF = {"tcp": False, "shared memory": True}  # whether clients take the memory that the server offers

Row = tuple[str, str, str]


class Alone:
    """Compute in this process what the server computes: the engine, and its near/far classifier.

    Parameters
    ----------
    model, device : str
        As for `load_scheme`.
    """

    def __init__(self, model: str, device: str) -> None:

        torch.set_num_threads(1)
        scheme = load_scheme("nflae", model, device)
        assert isinstance(scheme, Engine)
        self._engine = scheme

    def precode(self, channels: Channels, **budget: float) -> None:
        """Compute precoders and powers from channels in the host's memory to arrays there."""
        with torch.inference_mode():
            found = self._engine(ChannelBatch(torch.from_numpy(channels)), LinkBudget(**budget))
            result_arrays(found, names=("precoder", "power"))

    def classify(self, channels: Channels) -> None:
        """Compute near-field labels."""
        with torch.inference_mode():
            self._engine.near_field(torch.from_numpy(channels)).numpy()


def device_name(device: str) -> str:
    """Return the name of the GPU that a device of the command line is, or ``CPU``."""
    chosen = choose_device(device)
    return torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else "CPU"


def in_turns(ways: dict[str, Callable[[], object]], samples: int) -> dict[str, Any]:
    """Time calls in turns; return the times of each, us."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(samples + WARM_UP):
        for name, call in ways.items():
            began = time.perf_counter()
            call()
            times[name].append(1e6 * (time.perf_counter() - began))
    return {name: np.array(values[WARM_UP:]) for name, values in times.items()}


def percentiles(times: Any) -> str:
    """Return the 50th and the 99th percentile of times, us."""
    return "{:.0f} / {:.0f} us".format(*np.percentile(times, (50, 99)))


def one_drop(device: str, samples: int, model: str) -> Iterator[Row]:
    """Measure calls with one drop."""
    channels, precoders = rayleigh(1, USERS, ANTENNAS), ["precoder", "power"]
    frames = request(channels)
    with ExitStack() as stack:
        server, address = stack.enter_context(running_server("--device", device, "--model", model))
        echo_process, echo_address = stack.enter_context(running_echo())
        mirror, client = stack.enter_context(dealer(echo_address)), stack.enter_context(Client(address, timeout=120))
        ours, nano = Alone(model, device), Alone("nano", device)

        def echo() -> None:
            mirror.send_multipart(frames)
            mirror.recv_multipart()

        ways: dict[str, Callable[[], object]] = {
            "echo": echo,
            "engine": lambda: ours.precode(channels),
            "classifier": lambda: ours.classify(channels),
            "everything": lambda: client.precode(channels),
            "engine of nano": lambda: nano.precode(channels),
            "fast": lambda: client.precode(channels, effort="fast", want=precoders),
            "constrained": lambda: client.precode(channels, **CONSTRAINED),
        }
        times = in_turns(ways, samples)
        used = processor_us(ways, [server, echo_process], samples)
        wmmse = in_turns({"wmmse": lambda: client.precode(channels, scheme="wmmse")}, max(30, samples // 10))["wmmse"]
    on_cpu = device_name(device) == "CPU"
    yield "One drop, all arrays: p50 / p99", percentiles(times["everything"]), "" if on_cpu else "600 / 1200 us"
    parts = ("echo", "engine", "classifier")
    yield "over raw echo + engine + classifier alone, p50", ratio(medians(times), "everything", parts), "1.3"
    yield "the same by processor time", ratio(used, "everything", parts), ""
    yield AFTER_PAUSES, ratio(used, "everything, paused", tuple(f"{part}, paused" for part in parts)), ""
    goal = "400 us p50, one quiet core" if on_cpu else ""
    yield "One drop, precoder and power, `effort=fast`: p50 / p99", percentiles(times["fast"]), goal
    parts = ("echo", "engine of nano")
    yield "over raw echo + engine alone, p50", ratio(medians(times), "fast", parts), ""
    yield "the same by processor time", ratio(used, "fast", parts), ""
    yield AFTER_PAUSES, ratio(used, "fast, paused", tuple(f"{part}, paused" for part in parts)), ""
    goal = "" if on_cpu else "800 / 1400 us"
    yield "One drop with C3 and C4, all arrays: p50 / p99", percentiles(times["constrained"]), goal
    yield "One drop by `wmmse`, all arrays: p50 / p99", percentiles(wmmse), "" if on_cpu else "5000 us"


def medians(times: dict[str, Any]) -> dict[str, float]:
    """Return the medians of times, us."""
    return {name: float(np.median(values)) for name, values in times.items()}


def ratio(times: dict[str, float], whole: str, parts: tuple[str, ...]) -> str:
    """Return the ratio of a time to the sum of others, with the times."""
    terms = " + ".join(f"{times[part]:.0f}" for part in parts)
    return f"{times[whole] / sum(times[part] for part in parts):.2f} ({times[whole]:.0f} us / ({terms} us))"


def processor_us(
    ways: dict[str, Callable[[], object]], processes: list[subprocess.Popen[str]], calls: int
) -> dict[str, float]:
    """Return the processor time of each call in this process and in others, us, without and with pauses before it."""
    rounds: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, call in ways.items():
            for pause, title in ((0.0, name), (PAUSE_SECONDS, f"{name}, paused")):
                used, others = 0.0, sum(map(processor_seconds, processes))
                for _ in range(max(1, calls // ROUNDS)):
                    if pause:
                        time.sleep(pause)
                    began = time.process_time()
                    call()
                    used += time.process_time() - began
                used += sum(map(processor_seconds, processes)) - others
                rounds.setdefault(title, []).append(1e6 * used / max(1, calls // ROUNDS))
    return {title: float(np.median(values)) for title, values in rounds.items()}


def busy_polling(device: str, samples: int) -> Iterator[Row]:
    """Measure one drop with precoder and power, by both links of a client, with and without busy polling.

    They take turns of a hundred calls each, before which the polling of the others has ended.
    """
    channels = rayleigh(1, USERS, ANTENNAS)
    with ExitStack() as stack:
        calls: dict[str, Callable[[], object]] = {}
        servers = [
            stack.enter_context(running_server("--device", device, "--effort", "fast", *options))[1]
            for options in ((), ("--busy-poll", 1000))
        ]
        for text, link, address, busy_poll in (
            ("by ZeroMQ, as with keys and to other hosts", ZeroMQLink, servers[0], 0.0),
            ("without busy polling", PlainLink, servers[0], 0.0),
            ("with `--busy-poll 1000`", PlainLink, servers[1], 0.0),
            ("with `--busy-poll 1000` and `Client(busy_poll=1e-3)`", PlainLink, servers[1], 1e-3),
        ):
            with mock.patch("nflae_bridge.live.client.blocking.blocking_link", link):
                client = stack.enter_context(Client(address, timeout=120, busy_poll=busy_poll))
            calls[text] = functools.partial(client.precode, channels, want=["precoder", "power"])
        times: dict[str, list[Any]] = {text: [] for text in calls}
        for _ in range(max(1, samples // 100)):
            for text, call in calls.items():
                time.sleep(5e-3)
                times[text].append(in_turns({text: call}, 100)[text])
    for text, parts in times.items():
        yield f"One drop, precoder and power, {text}: p50 / p99", percentiles(np.concatenate(parts)), ""


def live_view(device: str, samples: int) -> Iterator[Row]:
    """Measure one drop with and without an open page of the live view, which reads all events, in turns."""
    channels, parts, times = rayleigh(1, USERS, ANTENNAS), 40, {"closed": [], "open": []}
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        url = f"127.0.0.1:{trial.getsockname()[1]}"
    view = ("--http", url, "--http-array", "line:30")
    reader = f"import urllib.request\nfor line in urllib.request.urlopen('http://{url}/events'): pass"
    with ExitStack() as stack:
        address = stack.enter_context(running_server("--device", device, *view))[1]
        client = stack.enter_context(Client(address, timeout=120))
        for part in range(parts):
            page = subprocess.Popen([sys.executable, "-c", reader]) if part % 2 else None
            end = time.perf_counter() + 0.7
            while time.perf_counter() < end:
                client.precode(channels)
            found = in_turns({"call": lambda: client.precode(channels)}, 2 * samples // parts)["call"]
            times["open" if page else "closed"].append(found)
            if page is not None:
                page.kill()
                page.wait()
    joined = {name: np.concatenate(values) for name, values in times.items()}
    yield "One drop, all arrays, no page of the live view open: p50 / p99", percentiles(joined["closed"]), ""
    yield "with a page open", percentiles(joined["open"]), ""
    pairs = zip(times["open"], times["closed"], strict=True)
    growth = 100 * (np.median([np.median(seen) / np.median(unseen) for seen, unseen in pairs]) - 1)
    yield "p50 with a page open over that without, median of the pairs", f"{growth:+.1f} %", "+5 %"


def engine(device: str, samples: int, model: str) -> Iterator[Row]:
    """Measure the engine alone with C3 and C4."""
    channels, ours = rayleigh(1, USERS, ANTENNAS), Alone(model, device)
    found = in_turns({"engine": lambda: ours.precode(channels, **CONSTRAINED)}, samples)["engine"]
    goal = "" if device_name(device) == "CPU" else "350 us"
    yield "Engine alone with C3 and C4, one drop, precoder and power: p50 / p99", percentiles(found), goal


# Eight clients


def request_repeatedly(address: str, kind: str, seed: int) -> None:
    """Send batches one after the other (child process), see `count_answers`."""
    channels = rayleigh(DROPS_PER_REQUEST, USERS, ANTENNAS, seed)
    if kind in CLIENTS_OF:
        with Client(address, timeout=300, shared_memory=CLIENTS_OF[kind]) as client:
            count_answers(lambda: client.precode(channels))
        return
    frames = request(channels)
    with dealer(address) as socket:

        def echo() -> None:
            socket.send_multipart(frames, copy=False)
            socket.recv_multipart(copy=False)

        count_answers(echo)


def eight_clients(stack: ExitStack, address: str, kind: str) -> ParallelClients:
    """Start eight clients of a server or of an echo."""
    options = ["-m", "benchmarks.served", "--child", kind, address]
    return ParallelClients(stack, ([*options, str(seed)] for seed in range(CLIENTS)), DROPS_PER_REQUEST)


def batches(device: str, seconds: float, model: str) -> Iterator[Row]:
    """Measure eight clients of the server by tcp and by shared memory, of an echo, and the engine alone, in turns."""
    channels, ours = rayleigh(DROPS_PER_REQUEST, USERS, ANTENNAS), Alone(model, device)
    with ExitStack() as stack:
        address = stack.enter_context(running_server("--device", device, "--model", model, "--queue-mb", 512))[1]
        echo = eight_clients(stack, stack.enter_context(running_echo())[1], "echo")
        served = [eight_clients(stack, address, kind) for kind in CLIENTS_OF]
        rates = []
        for _ in range(3):
            began, computed = time.perf_counter(), 0
            while time.perf_counter() - began < seconds / 9:
                ours.precode(channels)
                ours.classify(channels)
                computed += DROPS_PER_REQUEST
            alone = computed / (time.perf_counter() - began)
            of_clients = [clients.drops_per_second(seconds / 12) for clients in served]
            rates.append((*of_clients, echo.drops_per_second(seconds / 18), alone))
    *of_server, of_echo, of_engine = np.median(np.array(rates), 0)
    on_gpu = device_name(device) != "CPU"
    for (kind, shared), rate in zip(CLIENTS_OF.items(), of_server, strict=True):
        title = f"{CLIENTS} clients, {DROPS_PER_REQUEST} drops a request, all arrays, {kind}"
        yield f"{title}: drops per second", f"{rate:.0f}", "300000" if on_gpu and shared else ""
        goal = "0.8" if on_gpu and not shared else ""
        yield "over a raw echo of the same bytes by tcp", f"{rate / of_echo:.2f} ({of_echo:.0f})", goal
        yield "over engine and classifier alone", f"{rate / of_engine:.2f} ({of_engine:.0f})", ""


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Measure what the command line names, one kind after the other."""
    device, samples, model = options.device, options.samples, options.model
    kinds: dict[str, Callable[[], Iterator[Row]]] = {
        "one_drop": lambda: one_drop(device, samples, model),
        "busy_polling": lambda: busy_polling(device, samples),
        "live_view": lambda: live_view(device, samples),
        "engine": lambda: engine(device, samples, model),
        "batches": lambda: batches(device, options.seconds, model),
    }
    for kind in options.only.split(","):
        yield from kinds[kind]()


def lines(options: argparse.Namespace) -> Iterator[str]:
    """Return the lines of the table in Markdown, each once it is measured, and the conditions."""
    yield from ("| measured | value | goal |", "|---|---|---|")
    for row in rows(options):
        yield f"| {' | '.join(row)} |"
    yield ""
    yield (
        f"N = {ANTENNAS}, K = {USERS}, loopback, {device_name(options.device)}; {os.cpu_count()} cores"
        f" ({platform.machine()}), load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, one thread"
        " per process."
    )


def main() -> None:
    """Run the measurements named on the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(KINDS), help=f"some of {','.join(KINDS)}")
    parser.add_argument("--device", default="auto", help="device of server and engine (default auto)")
    parser.add_argument("--model", default="auto", help="model of server and engine (default auto)")
    parser.add_argument("--samples", type=int, default=1600, help="calls of each kind with one drop (default 1600)")
    parser.add_argument("--seconds", type=float, default=60.0, help="time of the batches (default 60)")
    parser.add_argument("-o", "--output", type=Path, help="file to write the table to as well")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, address, seed = options.child
        request_repeatedly(address, kind, int(seed))
        return
    text = []
    for line in lines(options):
        print(line, flush=True)
        text.append(f"{line}\n")
    if options.output:
        options.output.write_text("".join(text))


if __name__ == "__main__":
    main()
