"""Reproduce learned CSI feedback, without and with the site's mean angular magnitude as a prompt of the decoder.

References
----------
Guo, Cui, Wen, Jin, "Prompt-Enabled Large AI Models for CSI Feedback", arXiv:2501.10629.
"""

from __future__ import annotations

import math
from functools import partial

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from nflae_bridge.network.config import BackboneConfig
from nflae_bridge.network.encoders.masked import canonical_channels
from nflae_bridge.plots.style import empty_figure, grid_axes
from nflae_bridge.studies.csi.comparison import compare_csi
from nflae_bridge.studies.csi.measures import USERS
from nflae_bridge.studies.csi.token_network import TokenNetwork, complex_of, fit, real_parts, study_backbone
from nflae_bridge.studies.reproduction.experiment import Check, Experiment, Row, Unit
from nflae_bridge.studies.reproduction.study import Study
from nflae_bridge.studies.reproduction.trained_baselines import Note
from simulator.csi.beams import ArrayGeometry
from simulator.csi.feedback.polar import Polar
from simulator.csi.feedback.type2 import TypeTwo

ANTENNAS, BITS = 64, 64
_TOKENS, _LEVELS = 8, 4  # tokens of 8 beams; levels per fed-back number
_NUMBERS = BITS // (_TOKENS * 2)  # of 2 bits each, per token
_WAVES, _SITE_WIDTH = 6, 0.3  # paths per user; width of a site, in sines of directions
_PROMPT_USERS = 50
_SITES, _SITE_USERS = 16, 4  # per training step
_CUT = "200 test drops instead of 1,000; 900 training steps instead of 12,000"
_PLAIN, _PROMPTED = "learned", "learned, with prompt"


def draw_sites(sites: int, users: int, generator: torch.Generator) -> Tensor:
    """Draw users of several sites, whose paths leave the line array within the site's range of directions.

    Parameters
    ----------
    sites, users
        Number of sites, and of users at each.
    generator
        Source of randomness.

    Returns
    -------
    Tensor
        h, complex64 (sites, users, antennas), ||h|| = 1.
    """
    centre = 2 * torch.rand(sites, 1, 1, generator=generator) - 1
    sines = centre + _SITE_WIDTH * (torch.rand(sites, users, _WAVES, generator=generator) - 0.5)
    gains = torch.randn(sites, users, _WAVES, dtype=torch.complex64, generator=generator)
    gains = gains * torch.exp(-torch.arange(_WAVES) / 2)
    phase = math.pi * sines.unsqueeze(-1) * torch.arange(ANTENNAS)
    channels = (gains.unsqueeze(-1) * torch.polar(torch.ones_like(phase), phase)).sum(2)
    unit: Tensor = channels / torch.linalg.vector_norm(channels, dim=-1, keepdim=True)
    return unit


def mean_magnitude(channels: Tensor) -> Tensor:
    """Return the mean magnitude of each beam over the users of a site, largest 1.

    Parameters
    ----------
    channels
        complex64 (sites, users, antennas).

    Returns
    -------
    Tensor
        float32 (sites, antennas).
    """
    mean: Tensor = torch.fft.fft(channels).abs().mean(1)
    return mean / mean.amax(-1, keepdim=True)


class FeedbackCodec(nn.Module):
    """Code a channel in ``BITS`` bits and decode it, tokens of adjacent beams on both sides.

    Parameters
    ----------
    backbone
        The trunk of encoder and decoder.
    prompted
        The decoder is given the mean magnitude of its beams at the site.
    """

    def __init__(self, backbone: BackboneConfig, prompted: bool) -> None:
        super().__init__()
        beams = ANTENNAS // _TOKENS
        self.prompted = prompted
        self.encoder = TokenNetwork(2 * beams, _NUMBERS, _TOKENS, backbone)
        self.decoder = TokenNetwork(_NUMBERS + beams, 2 * beams, _TOKENS, backbone)

    def code(self, channels: Tensor) -> Tensor:
        """Return the numbers fed back, before rounding: float32 (rows, tokens, numbers), 0 to levels - 1.

        Parameters
        ----------
        channels
            complex64 (rows, antennas).

        Returns
        -------
        Tensor
            The numbers.
        """
        beams = torch.fft.fft(canonical_channels(channels), norm="ortho")
        output: Tensor = self.encoder(real_parts(beams.reshape(len(beams), _TOKENS, -1)))
        return (_LEVELS - 1) * torch.sigmoid(output)

    def forward(self, channels: Tensor, magnitude: Tensor) -> Tensor:
        """Code, round and decode; gradients pass the rounding unchanged.

        Parameters
        ----------
        channels
            complex64 (rows, antennas).
        magnitude
            Prompt of each row, float32 (rows, antennas); ignored by a codec without prompt.

        Returns
        -------
        Tensor
            complex64 (rows, antennas), ||h|| = 1.
        """
        exact = self.code(channels)
        sent = exact + (exact.round() - exact).detach()
        prompt = magnitude if self.prompted else torch.zeros_like(magnitude)
        tokens = torch.cat([sent, prompt.reshape(len(prompt), _TOKENS, -1)], -1)
        decoded: Tensor = torch.fft.ifft(complex_of(self.decoder(tokens)).flatten(1), norm="ortho")
        unit: Tensor = decoded / torch.linalg.vector_norm(decoded, dim=-1, keepdim=True).clamp(min=1e-9)
        return unit


def _units(prompts: tuple[bool, ...], study: Study) -> list[Unit]:
    return [Unit("feedback", partial(_compared, prompts, study))]


def _compared(prompts: tuple[bool, ...], study: Study, note: Note) -> list[Row]:
    generator = torch.Generator().manual_seed(study.seed)
    drawn = draw_sites(study.compute_budget.test_drops, USERS + _PROMPT_USERS, generator)
    truth = drawn[:, :USERS].flatten(0, 1)
    magnitude = mean_magnitude(drawn[:, USERS:]).repeat_interleave(USERS, 0)
    csi = {}
    for name, codec in (("type2", TypeTwo), ("polar", Polar)):
        note(name)
        built = codec(BITS, ANTENNAS, ArrayGeometry("line"), 1.0)
        csi[name] = built.decode(built.encode(truth.to(torch.complex128))).to(torch.complex64)
    for prompted in prompts:
        network = _trained(prompted, study, note)
        with torch.no_grad():
            csi[_PROMPTED if prompted else _PLAIN] = network(truth, magnitude)
    return compare_csi(truth, csi, study.engines["tiny"], "type2")


def _trained(prompted: bool, study: Study, note: Note) -> FeedbackCodec:
    torch.manual_seed(study.seed)
    network = FeedbackCodec(study_backbone(study.backbone), prompted)

    def loss(generator: torch.Generator) -> Tensor:
        drawn = draw_sites(_SITES, _SITE_USERS + _PROMPT_USERS, generator)
        magnitude = mean_magnitude(drawn[:, _SITE_USERS:]).repeat_interleave(_SITE_USERS, 0)
        truth = drawn[:, :_SITE_USERS].flatten(0, 1)
        decoded: Tensor = network(truth, magnitude)
        matched: Tensor = (decoded.conj() * truth).sum(-1).abs().square().mean()
        return 1 - matched

    fit(network, loss, 3 * study.compute_budget.steps["tiny"], study.seed, note, rate=2e-3)
    return network


def _draw(title: str, study: Study, rows: pd.DataFrame) -> Figure:
    cuts = study.compute_budget.cuts((), _CUT)
    figure = empty_figure(title, [cuts] if cuts else [], 8, 4.4)
    axes = figure.subplots()
    error = [rows["percent"] - rows["low"], rows["high"] - rows["percent"]]
    axes.bar(rows["method"], rows["percent"], yerr=error, color="#56B4E9", capsize=4)
    axes.set_ylabel(f"sum rate from {BITS} bits per user\n[% of that from perfect CSI]")
    grid_axes(axes)
    return figure


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    shown = rows.set_index("method")[["percent", "low", "high", "sgcs", "worse_percent"]]
    names = {"percent": "% of perfect CSI", "low": "from", "high": "to (95 %)", "sgcs": "SGCS"}
    return shown.rename(columns=names | {"worse_percent": "% of drops below Type II"}).rename_axis("codec")


def _checks(prompts: tuple[bool, ...], study: Study, rows: pd.DataFrame) -> list[Check]:
    percent = rows.set_index("method")["percent"]
    best = percent[["type2", "polar"]].max()
    checks = [
        Check(
            "learned codec: above Type II and the polar codec at equal bits",
            bool(percent[_PLAIN] > best),
            f"{percent[_PLAIN] - best:+.1f} points",
        )
    ]
    if True in prompts:
        checks.append(
            Check(
                "prompt: raises the sum rate of the learned codec",
                bool(percent[_PROMPTED] > percent[_PLAIN]),
                f"{percent[_PROMPTED] - percent[_PLAIN]:+.1f} points; {percent[_PROMPTED] - best:+.1f} from the best "
                "classical codec",
            )
        )
    return checks


def _experiment(name: str, title: str, source: str, prompts: tuple[bool, ...]) -> Experiment:
    return Experiment(
        name,
        title,
        source,
        partial(_units, prompts),
        partial(_draw, title),
        _table,
        partial(_checks, prompts),
        (
            f"{ANTENNAS} antennas in a line, {BITS} bits per user and report, six users of one site per drop; a site's "
            f"paths leave within a range of {_SITE_WIDTH:g} in the sine of the direction, users have {_WAVES} paths. "
            "The learned codec is given the norm and feeds back directions alone, the classical codecs include both in "
            "their bits. The prompt is the mean magnitude of each beam over 50 other users of the site. Unless "
            "`--backbone` names a folder, encoder and decoder have three GPT-2 blocks of width 64 each.",
        ),
        takes_backbone=True,
        cut=_CUT,
    )


CSI_FEEDBACK = _experiment("csi-feedback", "Learned CSI feedback at equal bits", "a published idea", (False,))
PROMPT_FEEDBACK = _experiment(
    "prompt-feedback",
    "Learned CSI feedback with the site's mean angular magnitude as a prompt",
    "arXiv:2501.10629, at another size",
    (False, True),
)
