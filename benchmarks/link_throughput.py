"""Compare the throughput of the link with that of Sionna's blocks alone, in one run.

    python benchmarks/link_throughput.py
    python benchmarks/link_throughput.py --device cuda --drops 512 --repeats 20

alone: encoder, mapper, white noise, demapper, decoder, for the same number of blocks in one batch. chain: the same
blocks through effective channels and equalisers, from drawing bits to counting errors. link: a whole unit of work of
`nflae link`, including CSI, labels and precoder; a precoder serves one block per user. Rounds of the three alternate;
the ratios are medians over rounds.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from nflae_bridge.engine.devices import choose_device
from nflae_bridge.studies.link.source import Batch, ScenarioDrops
from nflae_bridge.studies.link.sweep import Settings, Unit, run_unit
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch
from simulator.link_level.chain import Chain, effective_channels, scheduled
from simulator.link_level.counting import tally
from simulator.link_level.modulation import choose_modulation
from simulator.link_level.transceiver import Transceiver
from simulator.schemes import scheme

_SNR_DB = 20.0

Work = Callable[[], object]


@dataclass(frozen=True)
class DrawnBatch:
    """Hold a batch drawn beforehand: drawing channels is no part of the link."""

    drops: Batch

    def batch(self) -> Batch:
        """Return the batch."""
        return self.drops


def bare_blocks(transceiver: Transceiver, blocks: int, device: torch.device) -> Work:
    """Return a function that runs Sionna's blocks over white noise at 10 dB."""
    variance = torch.full((blocks,), 0.1, device=device)

    def run() -> float:
        bits = torch.randint(0, 2, (blocks, transceiver.information_bits), device=device).float()
        sent = transceiver.transmit(bits)
        decided = transceiver.receive(sent + math.sqrt(0.1) * torch.randn_like(sent), variance)
        return float((decided != bits).sum())

    return run


def whole_chain(chain: Chain, batch: Batch) -> Work:
    """Return a function that runs the chain and counts errors, with zero-forcing precoders computed beforehand."""
    channels, budget = batch.channels.to(chain.device), LinkBudget(1.0, 10 ** (-_SNR_DB / 10))
    precoding = scheme("zf")(ChannelBatch(channels), budget)
    effective = effective_channels(channels, precoding.precoder, precoding.power, 10 ** (-_SNR_DB / 10))
    serve, generator = scheduled(precoding.power, 1.0), torch.Generator(device=chain.device).manual_seed(1)

    def run() -> object:
        received = chain.run(effective, serve, chain.draw(*channels.shape[:2], generator))
        return tally(received, chain.symbols, precoding.rate, precoding.near_field)

    return run


def rounds(works: list[Work], repeats: int, device: torch.device) -> list[list[float]]:
    """Return the seconds of each function in each round, after one warm-up round; on the CPU in process time."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter

    def seconds(work: Work) -> float:
        began = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock() - began

    return [[seconds(work) for work in works] for _ in range(repeats + 1)][1:]


def main() -> None:
    """Print throughputs and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schemes", default="zf,rzf,wmmse,nflae")
    parser.add_argument("--modulation", default="16qam")
    parser.add_argument("--codes", default="ldpc:1/2,none")
    parser.add_argument("--symbols", type=int, default=168)
    parser.add_argument("--drops", type=int, default=32)
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--antennas", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device, symbols = choose_device(arguments.device), arguments.symbols
    if device.type == "cpu":
        torch.set_num_threads(1)
    blocks = arguments.drops * arguments.users
    source = ScenarioDrops("uav", arguments.users, arguments.antennas, arguments.drops, 3.0, 1)
    batch = source.recipe(0).batch()
    print(f"{arguments.drops} drops x {arguments.users} users, {symbols} symbols a block, on {device}")
    for code in arguments.codes.split(","):
        modulation = choose_modulation(arguments.modulation, code, symbols)
        transceiver = Transceiver(modulation.formats[0], symbols, device)
        works = {
            "alone": bare_blocks(transceiver, blocks, device),
            "chain": whole_chain(Chain(modulation, symbols, device), batch),
        }
        for name in arguments.schemes.split(","):
            settings = Settings((name,), arguments.modulation, code, symbols, device=str(device))
            unit = Unit(_SNR_DB, (0,), (DrawnBatch(batch),))
            works[f"link {name}"] = lambda settings=settings, unit=unit: run_unit(settings, unit)  # type: ignore[misc]
            run_unit(settings, unit)  # loads the model
        times = list(zip(*rounds(list(works.values()), arguments.repeats, device), strict=True))
        for name, seconds in zip(works, times, strict=True):
            ratio = statistics.median(alone / each for alone, each in zip(times[0], seconds, strict=True))
            pace = blocks * transceiver.information_bits / statistics.median(seconds)
            print(f"{code:9} {name:12} {pace:12,.0f} bit/s   {ratio:.3f} of the blocks alone")


if __name__ == "__main__":
    main()
