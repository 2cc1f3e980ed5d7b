"""Measure channel estimates from pilots: gain over LS, distance to tuned OMP, share of series made worse than LS.

    python benchmarks/estimate.py [--series 200] [--snr -5 5 15 25] [--only cdl ...] [--seed 1]

Flights, CDL, UMi and Rayleigh fading with 64 and 256 antennas, one snapshot, one noise variance per set. Noise is
given, estimated from the 20 drops of each user, or from a single drop. The rivals are OMP over plane waves, eight
directions per beam, and over spherical waves, each with the false alarm of least mean error out of four per line of the
table. Figures are means over series of the error in dB; a series is worse than LS if its error is higher by more than
0.1 dB.
"""

from __future__ import annotations

import argparse
import math

import torch
from torch import Tensor

from nflae_bridge.api.estimate import estimation_method
from nflae_bridge.studies.csi.settings import Setting, draw_series
from simulator.csi.beams import parse_geometry
from simulator.csi.estimation.matching_pursuit import dft_dictionary, matching_pursuit, polar_dictionary
from simulator.csi.estimation.pilots import Observation
from simulator.csi.estimation.users import EstimationMethod, estimate_users

FALSE_ALARMS = (0.01, 0.1, 1.0, 3.0)
MOST_ATOMS = 32
DROPS = 20
SETS = {
    "flight": lambda antennas: Setting("flight", antennas, 30e9, 20.0, 0.25e-3),
    "cdl": lambda antennas: Setting("cdl", antennas, 7e9, 3.0, 1e-3),
    "umi": lambda antennas: Setting("umi", antennas, 7e9, 3.0, 1e-3, f"panel:4x{antennas // 4}"),
    "rayleigh": lambda antennas: Setting("rayleigh", antennas, 7e9, 0.0, 1e-3),
}


def drawn(setting: Setting, series: int, seed: int) -> Tensor:
    """Return channels of unit norm, complex64 (series, 1, antennas)."""
    if setting.source != "rayleigh":
        return draw_series(setting, series, 1, seed)
    generator = torch.Generator().manual_seed(seed)
    channels = torch.randn(series, 1, setting.antennas, dtype=torch.complex64, generator=generator)
    return channels / torch.linalg.vector_norm(channels, dim=-1, keepdim=True)


def error_db(estimate: Tensor, channels: Tensor) -> Tensor:
    """Return the error of each series, dB."""
    ratio = (estimate - channels).abs().square().sum((1, 2)) / channels.abs().square().sum((1, 2))
    return 10 * ratio.log10()


def estimated(received: Tensor, method: EstimationMethod, drops: int) -> Tensor:
    """Estimate series that are the drops of one user after the other, (series, 1, antennas)."""
    grouped = received.reshape(-1, drops, *received.shape[1:]).permute(1, 2, 0, 3)  # (drops, 1, users, antennas)
    return estimate_users(grouped, method).channels.permute(2, 0, 1, 3).reshape(received.shape)


def rivals(received: Tensor, variance: float, sizes: tuple[int, ...], channels: Tensor) -> list[float]:
    """Return the least mean errors of OMP over plane and over spherical waves, dB."""
    observation = Observation(received, torch.full((len(received),), variance))
    return [
        min(
            float(error_db(matching_pursuit(observation, atoms, MOST_ATOMS, alarm, True).channels, channels).mean())
            for alarm in FALSE_ALARMS
        )
        for atoms in (dft_dictionary(sizes, 8), polar_dictionary(sizes))
    ]


def measure(setting: Setting, channels: Tensor, snr_db: float, seed: int) -> str:
    """Return one line of the table."""
    variance = 10 ** (-snr_db / 10) / setting.antennas
    generator = torch.Generator().manual_seed(seed + round(10 * snr_db))
    received = channels + math.sqrt(variance) * torch.randn(channels.shape, dtype=torch.complex64, generator=generator)
    geometry = "line" if setting.source == "rayleigh" else setting.geometry
    shape = (1, setting.antennas)
    received_error = error_db(received, channels)
    cells, given_error = [], math.nan
    for noise, drops in ((variance, 1), (None, DROPS), (None, 1)):
        method = estimation_method(shape, "auto", geometry, noise_variance=noise, device="cpu")
        error = error_db(estimated(received, method, drops), channels)
        given_error = float(error.mean()) if noise else given_error
        excess = error - received_error
        worse = 100 * float((excess > 0.1).float().mean())
        cells.append(f"{-float(excess.mean()):.2f} | {worse:.1f} % ({float(excess.max()):+.2f})")
    plane, spherical = rivals(received, variance, parse_geometry(geometry).grid(setting.antennas), channels)
    cells += [f"{plane - given_error:+.2f}", f"{spherical - given_error:+.2f}"]
    return f"| {setting.source} N={setting.antennas} | {snr_db:g} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, default=200, help=f"per set, a multiple of {DROPS}")
    parser.add_argument("--snr", type=float, nargs="+", default=[-5.0, 5.0, 15.0, 25.0], help="per antenna, dB")
    parser.add_argument("--antennas", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--only", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seed", type=int, default=4_711, help="of channels and noise (default 4711)")
    given = parser.parse_args()
    print(
        "| set | SNR dB | given: gain dB | worse (most, dB) | 20 drops: gain | worse | one drop: gain | worse |", end=""
    )
    print(" over plane OMP | over polar OMP |\n" + "|---" * 10 + "|")
    for antennas in given.antennas:
        for name in given.only:
            setting = SETS[name](antennas)
            channels = drawn(setting, given.series, given.seed)
            for snr_db in given.snr:
                print(measure(setting, channels, snr_db, given.seed), flush=True)


if __name__ == "__main__":
    main()
