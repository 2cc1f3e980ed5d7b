"""Estimate delay and Doppler shift by a network on GPT-2 blocks (2DLAM), beside the FFT and 2-D ESPRIT."""

from __future__ import annotations

import math
from functools import partial

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from nflae_bridge.network.trunks.tokens import TokenNetwork, real_parts
from nflae_bridge.plots.style import empty_figure, grid_axes, legend_beside
from nflae_bridge.studies.csi.delay_doppler import circular_error, esprit_2d, path_waves, strongest_peaks
from nflae_bridge.studies.csi.small_networks import fit, study_backbone
from nflae_bridge.studies.reproduction.experiment import Activity, Check, Experiment, Row, Unit
from nflae_bridge.studies.reproduction.study import Study
from nflae_bridge.studies.reproduction.trained_baselines import Note

_SLOTS, _SUBCARRIERS, _PATHS = 16, 16, 2
_SNR_DB = (-5, 0, 5, 10, 20)
_LARGEST_DELAY = 0.5  # cycles per subcarrier
_LARGEST_DROP_DB = 10.0  # of the second path
_ROWS, _GRIDS_PER_DROP = 64, 5
_STEPS = 4  # times those of ``tiny``
_METHODS = ("network", "FFT", "2-D ESPRIT")


def draw_grids(rows: int, snr_db: Tensor | float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw noisy grids of two paths, the second 0 to 10 dB weaker.

    Parameters
    ----------
    rows
        Number of grids.
    snr_db
        SNR per element, dB, a number or (rows,).
    generator
        Source of randomness.

    Returns
    -------
    grids, parameters : Tensor
        complex64 (rows, slots, subcarriers) of unit mean power before the noise; Doppler shifts and delays, real
        (rows, paths, 2), the stronger path first.
    """
    doppler = torch.rand(rows, _PATHS, generator=generator) - 0.5
    delay = _LARGEST_DELAY * torch.rand(rows, _PATHS, generator=generator)
    parameters = torch.stack([doppler, delay], -1)
    amplitude = torch.ones(rows, _PATHS)
    amplitude[:, 1] = 10 ** (-_LARGEST_DROP_DB * torch.rand(rows, generator=generator) / 20)
    gains = torch.polar(amplitude, 2 * math.pi * torch.rand(rows, _PATHS, generator=generator))
    waves = path_waves(parameters.flatten(0, 1), _SLOTS, _SUBCARRIERS).reshape(rows, _PATHS, _SLOTS, _SUBCARRIERS)
    clean = (gains[..., None, None] * waves).sum(1)
    clean = clean / clean.abs().square().mean((1, 2), keepdim=True).sqrt()
    deviation = 10 ** (-torch.as_tensor(snr_db, dtype=torch.float32).expand(rows) / 20)
    noise = torch.randn(clean.shape, dtype=torch.complex64, generator=generator)
    return clean + deviation[:, None, None] * noise, parameters


def _units(study: Study) -> list[Unit]:
    budget = study.compute_budget
    expected = [Activity("step", 0.048 * _STEPS * budget.steps["tiny"])]  # s, one core, here and below
    expected += [Activity(f"{snr_db} dB", 5.4e-3 * _GRIDS_PER_DROP * budget.test_drops) for snr_db in _SNR_DB]
    return [Unit("delay and Doppler", partial(_estimated, study), expected)]


def _estimated(study: Study, note: Note) -> list[Row]:
    torch.manual_seed(study.seed)
    network = TokenNetwork(2 * _SUBCARRIERS, 4 * _PATHS, _SLOTS, study_backbone(study.backbone))

    def loss(generator: torch.Generator) -> Tensor:
        snr_db = -5 + 25 * torch.rand(_ROWS, generator=generator)
        grids, parameters = draw_grids(_ROWS, snr_db, generator)
        angle = 2 * math.pi * parameters
        target = torch.stack([angle.cos(), angle.sin()], -1)
        return (_unit_vectors(network, grids) - target).square().sum(-1).mean()

    fit(network, loss, _STEPS * study.compute_budget.steps["tiny"], study.seed, note)
    rows: list[Row] = []
    for snr_db in _SNR_DB:
        generator = torch.Generator().manual_seed(study.seed + 100 + snr_db)
        grids, truth = draw_grids(_GRIDS_PER_DROP * study.compute_budget.test_drops, snr_db, generator)
        for name in _METHODS:
            note(f"{snr_db} dB: {name}")
            error = circular_error(_estimate(name, network, grids), truth) * _SLOTS
            rows.append(
                {
                    "snr_db": snr_db,
                    "method": name,
                    "grids": len(grids),
                    "doppler_median_bins": float(error[:, 0, 0].median()),
                    "delay_median_bins": float(error[:, 0, 1].median()),
                    "both_paths_percent": 100 * float((error < 0.5).all(-1).all(-1).double().mean()),
                }
            )
    return rows


def _unit_vectors(network: TokenNetwork, grids: Tensor) -> Tensor:
    """Return cosine and sine of both parameters of each path, (rows, paths, 2, 2)."""
    spectrum = torch.fft.fft2(grids, norm="ortho")  # over slots the shifts are products, which tokens learn badly
    output: Tensor = network(real_parts(spectrum)).mean(1)
    return output.reshape(len(grids), _PATHS, 2, 2)


@torch.no_grad()
def _estimate(name: str, network: TokenNetwork, grids: Tensor) -> Tensor:
    if name == "FFT":
        return strongest_peaks(grids, _PATHS)
    if name == "2-D ESPRIT":
        return torch.cat([esprit_2d(part, _PATHS) for part in torch.split(grids, 100)])
    vectors = _unit_vectors(network, grids)
    return torch.atan2(vectors[..., 1], vectors[..., 0]) / (2 * math.pi)


def _draw(study: Study, rows: pd.DataFrame) -> Figure:
    figure = empty_figure(EXPERIMENT.title, EXPERIMENT.cuts(study), 11, 4.6)
    error, share = figure.subplots(1, 2)
    for name in _METHODS:
        selected = rows[rows["method"] == name]
        error.semilogy(selected["snr_db"], selected["delay_median_bins"], marker="o", label=name)
        share.plot(selected["snr_db"], selected["both_paths_percent"], marker="o", label=name)
    error.set_ylabel("median delay error of the\nstronger path [1/16 cycle]")
    share.set_ylabel("both paths within half a bin\n[% of the grids]")
    for axes in (error, share):
        axes.set_xlabel("SNR per element [dB]")
        grid_axes(axes)
    legend_beside(share)
    return figure


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    shown = rows.copy()
    shown["cell"] = [
        f"{row.doppler_median_bins:.3f} / {row.delay_median_bins:.3f}; {row.both_paths_percent:.1f} %"
        for row in rows.itertuples()
    ]
    wide = shown.pivot(index="method", columns="snr_db", values="cell").loc[list(_METHODS)]
    wide.columns = pd.Index([f"{snr_db} dB" for snr_db in wide.columns])
    return wide.rename_axis("median error of the stronger path (Doppler / delay, bins); both paths right")


def _checks(study: Study, rows: pd.DataFrame) -> list[Check]:
    wide = rows.pivot(index="snr_db", columns="method", values="both_paths_percent")
    margin = wide["network"] - wide[["FFT", "2-D ESPRIT"]].max(axis=1)
    return [
        Check(
            "network: both paths found more often than by the FFT and by 2-D ESPRIT",
            bool(margin.min() > 0),
            f"{margin.min():+.1f} to {margin.max():+.1f} points",
        )
    ]


EXPERIMENT = Experiment(
    "2dlam",
    "Delay and Doppler shift of two paths by GPT-2 blocks (2DLAM)",
    "a published idea, at another size",
    _units,
    _draw,
    _table,
    _checks,
    (
        "16 slots by 16 subcarriers; two paths, the second up to 10 dB weaker. A bin is 1/16 cycle per slot or "
        "subcarrier. The network is given the 2-D FFT of the grid, one token per Doppler bin, and gives cosine and "
        "sine of both parameters of each path; the FFT is padded eightfold with zeros, with the paths subtracted one "
        "by one. All methods know the number of paths.",
    ),
    takes_backbone=True,
    cut="1,000 test grids per SNR instead of 5,000; 1,200 training steps instead of 16,000",
)
