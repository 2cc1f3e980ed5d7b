"""Measure the SINR at which each entry of the CQI tables has a block error rate of 10 % over white Gaussian noise.

    python benchmarks/link_thresholds.py --symbols 168
    python benchmarks/link_thresholds.py --symbols 1008 --blocks 300

The figures in `simulator.link_level.modulation` are from 1000 blocks of 168 symbols and 300 of 1008 (256QAM: 200).
"""

from __future__ import annotations

import argparse
import math

import torch

from nflae_bridge.engine.devices import choose_device
from simulator.link_level.modulation import Format, cqi_table
from simulator.link_level.transceiver import Transceiver

_TARGET = 0.1


def block_error_rate(transceiver: Transceiver, symbols: int, sinr_db: float, blocks: int, seed: int) -> float:
    """Return the block error rate over white noise, with the same bits and noise at every SINR of a search."""
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(0, 2, (blocks, transceiver.information_bits), generator=generator).float()
    noise = torch.randn(blocks, symbols, dtype=torch.complex64, generator=generator)
    variance = 10 ** (-sinr_db / 10)
    decided = transceiver.receive(
        transceiver.transmit(bits) + math.sqrt(variance) * noise, torch.full((blocks,), variance)
    )
    return float((decided != bits).any(-1).float().mean())


def threshold(form: Format, symbols: int, blocks: int, seed: int) -> float:
    """Return the SINR, dB, of a block error rate of 10 %, by bisection from the Shannon limit upwards."""
    assert form.rate is not None
    transceiver = Transceiver(form, symbols, choose_device("cpu"))
    low = 10 * math.log10(2 ** (form.bits_per_symbol * form.rate) - 1)
    few = max(50, blocks // 8)
    while block_error_rate(transceiver, symbols, low + 0.8, few, seed) > 0.3:
        low += 0.8
    high = low + 1.6
    for step in range(6):
        middle = (low + high) / 2
        count = few if step < 2 else blocks
        if block_error_rate(transceiver, symbols, middle, count, seed) > _TARGET:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def main() -> None:
    """Print the required SINR of every entry."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--symbols", type=int, default=168)
    parser.add_argument("--blocks", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bits", type=int, nargs="+", default=[2, 4, 6, 8], help="bits per symbol")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    formats = {entry.format for name in ("auto", "auto:256qam") for entry in cqi_table(name)}
    for form in sorted(formats, key=lambda form: (form.bits_per_symbol, form.rate)):
        if form.bits_per_symbol in arguments.bits:
            assert form.rate is not None
            found = threshold(form, arguments.symbols, arguments.blocks, arguments.seed)
            print(f"({form.bits_per_symbol}, {1024 * form.rate:.0f}): {found:.2f}", flush=True)


if __name__ == "__main__":
    main()
