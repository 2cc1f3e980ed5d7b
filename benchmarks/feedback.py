"""Measure CSI feedback: sum rate from the CSI fed back, in percent of that from perfect CSI, at equal bits.

    python benchmarks/feedback.py [--bits 64] [--users 240] [--learned SECONDS]

Six users per drop, P / sigma^2 = 20 dB at a mean ||h||^2 of 1, model tiny, the last of 20 snapshots, 95 % intervals
over drops. `--learned` trains the codec of the experiments csi-feedback and prompt-feedback on other CDL channels for
that many seconds of CPU time, without and with the mean beam magnitude of the same user's other snapshots as the
decoder's prompt.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor

from nflae_bridge.engine.schemes import load_scheme
from nflae_bridge.network.csi.feedback_codec import FeedbackCodec, FeedbackConfig
from nflae_bridge.studies.csi.measures import ratio_interval, sgcs, sum_rates
from nflae_bridge.studies.csi.settings import SETTINGS, Setting, draw_series
from nflae_bridge.training.sources.feedback_sites import mean_magnitude
from simulator.csi.beams import parse_geometry
from simulator.csi.feedback.codec import FeedbackFormat
from simulator.csi.feedback.ends import FeedbackDecoder, FeedbackEncoder

SNAPSHOTS = 20
MEASURED = [SETTINGS[index] for index in (0, 2, 3, 4)]
CODECS = [("type2", "ar"), ("polar", "ar"), ("rest", "hold"), ("rest", "ar"), ("auto", "ar")]


def fed_back(series: Tensor, setting: Setting, bits: int, codec: str, predictor: str) -> Tensor:
    """Return the CSI of the last snapshot, decoded from the bits of all reports, complex64 (users, antennas)."""
    reference = float(torch.linalg.vector_norm(series, dim=-1).max())
    geometry = parse_geometry(setting.geometry)
    link = FeedbackFormat(bits, setting.antennas, codec, geometry, predictor, reference)  # type: ignore[arg-type]
    encoder, decoder = FeedbackEncoder(link, len(series)), FeedbackDecoder(link, len(series))
    for snapshot in series.swapaxes(0, 1):
        reports, _ = encoder.encode(snapshot)
        csi = decoder.decode(reports)
    return csi


def learned(setting: Setting, seconds: float, prompted: bool) -> FeedbackCodec:
    """Train a codec on other users of the setting, one snapshot at a time."""
    torch.manual_seed(0)
    train = draw_series(setting, 2000, 4, 77)
    network = FeedbackCodec(FeedbackConfig(prompted=prompted))
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    generator, begin = torch.Generator().manual_seed(0), time.process_time()
    while (spent := time.process_time() - begin) < seconds:
        optimiser.param_groups[0]["lr"] = 2e-3 * (1 - spent / seconds)
        rows = torch.randint(len(train), (128,), generator=generator)
        truth = train[rows, torch.randint(4, (128,), generator=generator)]
        truth = truth / torch.linalg.vector_norm(truth, dim=-1, keepdim=True)
        matched = (network(truth, mean_magnitude(train[rows])).conj() * truth).sum(-1).abs().square().mean()
        optimiser.zero_grad()
        (1 - matched).backward()
        optimiser.step()
    return network.eval()


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--users", type=int, default=240)
    parser.add_argument("--learned", type=float, default=0.0, metavar="SECONDS")
    given = parser.parse_args()
    engine = load_scheme("nflae", "tiny", "cpu")

    def show(setting: Setting, name: str, truth: Tensor, csi: Tensor) -> None:
        percent = [
            100 * value for value in ratio_interval(sum_rates(truth, csi, engine), sum_rates(truth, truth, engine))
        ]
        print(
            f"{setting.name} | {given.bits} bits | {name} | {percent[0]:.1f} ({percent[1]:.1f} to {percent[2]:.1f}) %"
            f" | SGCS {sgcs(truth, csi):.3f}",
            flush=True,
        )

    for setting in MEASURED:
        series = draw_series(setting, given.users, SNAPSHOTS, 31)
        if given.learned and setting.source == "cdl":
            for prompted in (False, True):
                network = learned(setting, given.learned, prompted)
                last = series[:, -1]
                norm = torch.linalg.vector_norm(last, dim=-1, keepdim=True)
                with torch.no_grad():
                    csi = norm * network(last / norm, mean_magnitude(series[:, :-1]))
                show(setting, "learned, prompt" if prompted else "learned", last, csi)
        for codec, predictor in CODECS:
            csi = fed_back(series, setting, given.bits, codec, predictor)
            show(setting, f"{codec} {predictor}", series[:, -1], csi)


if __name__ == "__main__":
    main()
