"""Reproduce learned CSI feedback, without and with the site's mean angular magnitude as a prompt of the decoder.

References
----------
Guo, Cui, Wen, Jin, "Prompt-Enabled Large AI Models for CSI Feedback", arXiv:2501.10629.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from nflae_bridge.network.csi.feedback_codec import FeedbackCodec
from nflae_bridge.plots.style import empty_figure, grid_axes
from nflae_bridge.studies.csi.comparison import compare_csi
from nflae_bridge.studies.csi.measures import USERS
from nflae_bridge.studies.csi.small_networks import study_backbone
from nflae_bridge.studies.reproduction.experiment import Activity, Check, Experiment, Row, Unit
from nflae_bridge.studies.reproduction.study import Study
from nflae_bridge.studies.reproduction.trained_baselines import Note, finished_mark, train_baseline
from nflae_bridge.tasks.feedback import FEEDBACK
from nflae_bridge.training.recipe import Recipe
from nflae_bridge.training.sources.feedback_sites import PROMPT_USERS, SITE_WIDTH, WAVES, draw_sites, mean_magnitude
from simulator.csi.feedback.codec import CodecName, FeedbackFormat
from simulator.csi.feedback.ends import FeedbackDecoder, FeedbackEncoder

_PRESETS = {False: FEEDBACK.presets["feedback-tiny"].recipe, True: FEEDBACK.presets["feedback-prompt-tiny"].recipe}
ANTENNAS, BITS = _PRESETS[False].network.antennas, _PRESETS[False].network.bits
_SNAPSHOTS = 12
_STEPS = 2  # times those of ``tiny``
_CUT = "100 test drops instead of 500; 600 training steps instead of 8,000"
_PLAIN, _PROMPTED, _LOOP = "learned", "learned, with prompt", "rest"
_CLASSICAL: tuple[CodecName, ...] = ("type2", "polar", "rest")


def _units(prompts: tuple[bool, ...], study: Study) -> list[Unit]:
    expected = [Activity(_LOOP, 0.085 * (study.compute_budget.test_drops // 2))]  # s, one core, here and below
    for prompted in prompts:
        recipe, name = _recipe(prompted, study), _PROMPTED if prompted else _PLAIN
        mark = finished_mark(study.folder / "runs", recipe)
        expected.append(Activity(f"training {name}", 0.072 * recipe.steps, mark))
    return [Unit("feedback", partial(_compared, prompts, study), expected)]


def _compared(prompts: tuple[bool, ...], study: Study, note: Note) -> list[Row]:
    """Compare the CSI of the last snapshot; ``rest`` has had a report of every snapshot before."""
    generator = torch.Generator().manual_seed(study.seed)
    drawn = draw_sites(study.compute_budget.test_drops // 2, USERS + PROMPT_USERS, ANTENNAS, generator, _SNAPSHOTS)
    series, truth = drawn[:, :USERS].flatten(0, 1), drawn[:, :USERS, -1].flatten(0, 1)
    magnitude = mean_magnitude(drawn[:, USERS:, -1]).repeat_interleave(USERS, 0)
    csi: dict[str, Tensor] = {}
    for codec in _CLASSICAL:
        note(codec)
        csi[codec] = _fed_back(series if codec == _LOOP else series[:, -1:], codec)
    for prompted in prompts:
        network = _trained(prompted, study, note)
        with torch.no_grad():
            csi[_PROMPTED if prompted else _PLAIN] = network(truth, magnitude)
    return compare_csi(truth, csi, study.engines["tiny"], "type2")


def _fed_back(series: Tensor, codec: CodecName) -> Tensor:
    """Return the CSI of the last snapshot from the bits of all reports, complex64 (users, antennas)."""
    link = FeedbackFormat(BITS, ANTENNAS, codec)
    encoder, decoder = FeedbackEncoder(link, len(series)), FeedbackDecoder(link, len(series))
    for snapshot in series.unbind(1):
        csi = decoder.decode(encoder.encode(snapshot)[0])
    return csi.to(torch.complex64)


def _recipe(prompted: bool, study: Study) -> Recipe:
    preset, steps = _PRESETS[prompted], _STEPS * study.compute_budget.steps["tiny"]
    network = replace(preset.network, backbone=study_backbone(study.backbone))
    validate_every = min(preset.validate_every, steps)
    return replace(preset, network=network, steps=steps, validate_every=validate_every, seed=study.seed)


def _trained(prompted: bool, study: Study, note: Note) -> FeedbackCodec:
    name, recipe = _PROMPTED if prompted else _PLAIN, _recipe(prompted, study)
    checkpoint, _ = train_baseline(name, recipe, study.folder / "runs", study.device, note)
    assert isinstance(checkpoint.network, FeedbackCodec)
    return checkpoint.network.cpu().eval()


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
    best_learned = percent[[name for name in (_PLAIN, _PROMPTED) if name in percent]].max()
    checks = [
        Check(
            "learned codec: above Type II and the polar codec at equal bits",
            bool(percent[_PLAIN] > best),
            f"{percent[_PLAIN] - best:+.1f} points",
        ),
        Check(
            "learned codec: above the closed loop `rest` at equal bits",
            bool(best_learned > percent[_LOOP]),
            f"{best_learned - percent[_LOOP]:+.1f} points",
        ),
    ]
    if True in prompts:
        checks.append(
            Check(
                "prompt: raises the sum rate of the learned codec",
                bool(percent[_PROMPTED] > percent[_PLAIN]),
                f"{percent[_PROMPTED] - percent[_PLAIN]:+.1f} points; {percent[_PROMPTED] - best:+.1f} from the "
                "better of Type II and polar",
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
            f"paths leave within a range of {SITE_WIDTH:g} in the sine of the direction, users have {WAVES} paths and "
            "3 m/s at 7 GHz, a snapshot every 1 ms. The learned codec is given the norm and feeds back directions, the "
            "classical codecs include both in their bits. Type II, polar and learned codec code one snapshot alone; "
            f"`rest` is the closed loop of `nflae feedback` after {_SNAPSHOTS - 1} earlier reports of the same size. "
            f"The prompt is the mean magnitude of each beam over {PROMPT_USERS} other users of the site. The learned "
            "codecs are trained on other sites of the same kind, which favours them. Unless `--backbone` names "
            "a folder, encoder and decoder have three GPT-2 blocks of width 64 each.",
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
