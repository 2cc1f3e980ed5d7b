"""Reproduce pretraining on masked channels (LWM, BERT4MIMO, WirelessGPT): reconstruction, and features for few labels.

They differ in what a token is and in what is hidden. Rivals: linear MMSE interpolation with the covariance of the same
training channels; raw channels, three hand-made features and the network with random weights.

References
----------
Alikhani, Charan, Alkhateeb, "Large Wireless Model (LWM)", arXiv:2411.08872.
Catak, Kuzlu, Cali, "BERT4MIMO", arXiv:2501.01802.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from nflae_bridge.network.trunks.tokens import TokenNetwork, complex_of, real_parts
from nflae_bridge.plots.style import empty_figure, grid_axes, legend_beside
from nflae_bridge.studies.csi.probes import accuracy_cells, handmade_features, probe_accuracy
from nflae_bridge.studies.csi.small_networks import fit, study_backbone
from nflae_bridge.studies.csi.wideband import ANTENNAS, SLOTS, SUBCARRIERS, WidebandChannels, draw_wideband
from nflae_bridge.studies.reproduction.experiment import Activity, Check, Experiment, Row, Unit
from nflae_bridge.studies.reproduction.study import Study
from nflae_bridge.studies.reproduction.trained_baselines import Note

_TEST, _LABELLED, _ROWS, _TEST_MASKS = 500, (20, 100, 500), 64, 4
_TRAINING_PER_DROP = 10  # channels per test drop of the compute budget
_STEPS = 3  # times those of ``tiny``
_LOADING = 1e-3
_CUT = "2,000 training channels instead of 10,000; 900 training steps instead of 12,000"


@dataclass(frozen=True)
class Masking:
    """Describe the tokens of a method.

    Parameters
    ----------
    slots
        Snapshots used, from the first.
    patch
        Slots, antennas and subcarriers per token.
    hidden
        Number of tokens hidden.
    last
        Hide the last tokens, those of the last slots, instead of random ones.
    """

    slots: int
    patch: tuple[int, int, int]
    hidden: int
    last: bool = False

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        sizes = (self.slots, ANTENNAS, SUBCARRIERS)
        return (sizes[0] // self.patch[0]) * (sizes[1] // self.patch[1]) * (sizes[2] // self.patch[2])

    def tokens_of(self, channels: Tensor) -> Tensor:
        """Return channels as tokens.

        Parameters
        ----------
        channels
            complex (rows, slots, antennas, subcarriers).

        Returns
        -------
        Tensor
            complex (rows, tokens, size), slots outermost.
        """
        t, n, f = self.patch
        blocks = channels[:, : self.slots].reshape(
            len(channels), self.slots // t, t, ANTENNAS // n, n, SUBCARRIERS // f, f
        )
        return blocks.permute(0, 1, 3, 5, 2, 4, 6).reshape(len(channels), self.tokens, t * n * f)

    def masks(self, rows: int, generator: torch.Generator) -> Tensor:
        """Draw the tokens to hide.

        Parameters
        ----------
        rows
            Number of channels.
        generator
            Source of randomness.

        Returns
        -------
        Tensor
            bool (rows, tokens).
        """
        if self.last:
            return (torch.arange(self.tokens) >= self.tokens - self.hidden).expand(rows, -1)
        order = torch.rand(rows, self.tokens, generator=generator).argsort(-1)
        return torch.lt(order, self.hidden)


def _units(masking: Masking, study: Study) -> list[Unit]:
    budget = study.compute_budget
    expected = [  # s, one core
        Activity("channels", 4.8e-3 * (_TRAINING_PER_DROP * budget.test_drops + _TEST)),
        Activity("step", 0.049 * _STEPS * budget.steps["tiny"]),
        Activity("linear MMSE", 3.0),
    ]
    return [Unit("pretraining", partial(_pretrained, masking, study), expected)]


def _pretrained(masking: Masking, study: Study, note: Note) -> list[Row]:
    note("channels")
    training = _TRAINING_PER_DROP * study.compute_budget.test_drops
    drawn = draw_wideband(training + _TEST, study.seed)
    noisy, clean = masking.tokens_of(drawn.noisy), masking.tokens_of(drawn.clean)
    size = noisy.shape[-1]
    torch.manual_seed(study.seed)
    network = TokenNetwork(2 * size, 2 * size, masking.tokens, study_backbone(study.backbone))
    untrained = _features(network.eval(), noisy)
    inputs = real_parts(noisy)

    def loss(generator: torch.Generator) -> Tensor:
        rows = torch.randint(training, (_ROWS,), generator=generator)
        mask = masking.masks(_ROWS, generator)
        error: Tensor = (network(inputs[rows], mask) - inputs[rows])[mask]
        return error.square().mean()

    fit(network, loss, _STEPS * study.compute_budget.steps["tiny"], study.seed, note)
    note("linear MMSE")
    rows = _reconstruction(masking, network, noisy, clean, training)
    features = {
        "pretrained": _features(network, noisy),
        "random weights": untrained,
        "raw channels": real_parts(drawn.noisy[:, : masking.slots].flatten(1)),
        "three features": handmade_features(drawn.noisy[:, 0].mean(-1)),
    }
    return rows + _probes(features, drawn)


@torch.no_grad()
def _features(network: TokenNetwork, tokens: Tensor) -> Tensor:
    """Return mean and standard deviation of the hidden states over the tokens."""
    states = torch.cat([network.hidden(real_parts(part)) for part in torch.split(tokens, _TEST)])
    return torch.cat([states.mean(1), states.std(1, correction=0)], -1)


@torch.no_grad()
def _reconstruction(masking: Masking, network: TokenNetwork, noisy: Tensor, clean: Tensor, training: int) -> list[Row]:
    """Return the error on hidden tokens of the test channels; one mask serves all channels of a part."""
    flat = noisy[:training].flatten(1)
    covariance = (flat.mT @ flat.conj() / training).to(torch.complex128)
    generator = torch.Generator().manual_seed(1)
    errors = {"pretrained": 0.0, "linear MMSE": 0.0, "zero": 0.0}
    power = 0.0
    for part_noisy, part_clean in zip(
        noisy[training:].chunk(_TEST_MASKS), clean[training:].chunk(_TEST_MASKS), strict=True
    ):
        mask = masking.masks(1, generator)[0]
        truth = part_clean[:, mask]
        found = complex_of(network(real_parts(part_noisy), mask.expand(len(part_noisy), -1)))[:, mask]
        hidden = mask.repeat_interleave(noisy.shape[-1])
        visible = covariance[~hidden][:, ~hidden]
        visible = visible + _LOADING * torch.eye(len(visible))
        gain = torch.linalg.solve(visible, covariance[hidden][:, ~hidden].mH).mH
        linear = part_noisy.flatten(1)[:, ~hidden].to(torch.complex128) @ gain.mT
        errors["pretrained"] += float((found - truth).abs().square().sum())
        errors["linear MMSE"] += float((linear.reshape(truth.shape) - truth).abs().square().sum())
        errors["zero"] += float(truth.abs().square().sum())
        power += float(truth.abs().square().sum())
    return [
        {
            "kind": "hidden tokens",
            "method": name,
            "labels": None,
            "mse": error / power,
            "accuracy": None,
            "spread": None,
        }
        for name, error in errors.items()
    ]


def _probes(features: dict[str, Tensor], drawn: WidebandChannels) -> list[Row]:
    rows: list[Row] = []
    for name, values in features.items():
        for labelled in _LABELLED:
            mean, spread = probe_accuracy(values, drawn.line_of_sight, labelled, _TEST)
            row: Row = {"kind": "line of sight", "method": name, "labels": labelled, "mse": None}
            rows.append({**row, "accuracy": mean, "spread": spread})
    return rows


def _draw(title: str, study: Study, rows: pd.DataFrame) -> Figure:
    cuts = study.compute_budget.cuts((), _CUT)
    figure = empty_figure(title, [cuts] if cuts else [], 10, 4.6)
    error, accuracy = figure.subplots(1, 2)
    hidden = rows[rows["kind"] == "hidden tokens"]
    error.bar(hidden["method"], hidden["mse"], color=["#CC79A7", "#0072B2", "#999999"][: len(hidden)])
    error.set_ylabel("squared error on hidden tokens\nover their power")
    grid_axes(error)
    probes = rows[rows["kind"] == "line of sight"]
    for name in probes["method"].unique():
        selected = probes[probes["method"] == name]
        shares = [100 * selected[column] for column in ("accuracy", "spread")]
        accuracy.errorbar(selected["labels"], *shares, marker="o", capsize=3, label=name)
    accuracy.set_xscale("log")
    accuracy.set_xticks(_LABELLED, [str(labelled) for labelled in _LABELLED])
    accuracy.minorticks_off()
    accuracy.set_xlabel("labelled channels")
    accuracy.set_ylabel("line of sight found [% of users]")
    legend_beside(accuracy)
    grid_axes(accuracy)
    return figure


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    hidden = rows[rows["kind"] == "hidden tokens"].set_index("method")["mse"].rename("error on hidden tokens")
    probes = rows[rows["kind"] == "line of sight"].copy()
    probes["cell"] = accuracy_cells(probes)
    wide = probes.pivot(index="method", columns="labels", values="cell")
    shown = wide.rename(columns=lambda labels: f"line of sight found, %, {int(labels)} labels").join(
        hidden, how="outer"
    )
    shown = shown.fillna({column: "" for column in shown.columns if column != hidden.name})
    return shown.loc[rows["method"].unique()].rename_axis("features or estimate")


def _checks(study: Study, rows: pd.DataFrame) -> list[Check]:
    mse = rows[rows["kind"] == "hidden tokens"].set_index("method")["mse"]
    probes = rows[rows["kind"] == "line of sight"].pivot(index="labels", columns="method", values="accuracy")
    margin = 100 * (probes["pretrained"] - probes.drop(columns="pretrained").max(axis=1))
    return [
        Check(
            "pretrained network: hidden tokens better than by linear MMSE",
            bool(mse["pretrained"] < mse["linear MMSE"]),
            f"{mse['pretrained']:.3f} against {mse['linear MMSE']:.3f}",
        ),
        Check(
            "pretrained features: above raw channels, hand-made features and random weights",
            bool(margin.min() > 0),
            ", ".join(f"{value:+.1f} points with {labels:.0f} labels" for labels, value in margin.items()),
        ),
    ]


def _experiment(name: str, title: str, source: str, masking: Masking, remark: str) -> Experiment:
    return Experiment(
        name,
        title,
        source,
        partial(_units, masking),
        partial(_draw, title),
        _table,
        _checks,
        (
            f"{remark} Channels: 3GPP CDL-A to E alike, 10 m/s, 7 GHz, {SLOTS} slots of 1 ms, {ANTENNAS} antennas, "
            f"{SUBCARRIERS} subcarriers over 5 MHz, noise 20 dB down. Linear MMSE has the sample covariance of the "
            "same training channels. Accuracies are those of logistic regression or 5 nearest neighbours, the better "
            "one, for each kind of features: mean and standard deviation over five draws of the labelled channels. "
            "Unless `--backbone` names a folder, the trunk is three GPT-2 blocks of width 64.",
        ),
        takes_backbone=True,
        cut=_CUT,
    )


LWM = _experiment(
    "lwm",
    "Masked space-frequency patches (LWM)",
    "arXiv:2411.08872, at another size",
    Masking(1, (1, 2, 4), 3),
    "One snapshot in 16 patches of 2 antennas by 4 subcarriers, 3 of them hidden.",
)
BERT4MIMO = _experiment(
    "bert4mimo",
    "Masked snapshots (BERT4MIMO)",
    "arXiv:2501.01802, at another size",
    Masking(8, (1, 16, 8), 1),
    "Eight snapshots, one token each, one of them hidden.",
)
WIRELESSGPT = _experiment(
    "wirelessgpt",
    "Masked space-time-frequency patches, the last ones hidden (WirelessGPT)",
    "a published idea, at another size",
    Masking(8, (2, 8, 4), 4, last=True),
    "Patches of 2 slots, 8 antennas and 4 subcarriers; those of the last 2 of 8 slots are hidden, which is prediction.",
)
