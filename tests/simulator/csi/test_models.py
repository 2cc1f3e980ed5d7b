"""CSI models: what their text means, and in which order the parts of a combination apply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from simulator.csi.kinds.noisy import NoisyCsi
from simulator.csi.models import CsiContext, CsiModel, Stage, parse_csi
from simulator.csi.registry import REGISTRY, csi_forms


def context(seed: int = 0) -> CsiContext:
    return CsiContext(torch.Generator().manual_seed(seed))


def channels(snapshots: int = 6, users: int = 2, antennas: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(snapshots, users, antennas, dtype=torch.complex64, generator=generator)


@dataclass(frozen=True)
class Recorder:
    """A part that notes its name and the shape that it receives."""

    name: str
    stage: Stage
    slots: int = 0
    history: int = 1
    log: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)

    def __call__(self, snapshots: Tensor, context: CsiContext) -> Tensor:
        self.log.append((self.name, tuple(snapshots.shape)))
        return snapshots

    def __str__(self) -> str:
        return self.name


@pytest.mark.parametrize(
    "text", ["perfect", "noisy:-3.5", "aged:0", "aged:12", "quantised:4", "quantised:4,noisy:10", "aged:2,noisy:3"]
)
def test_a_model_is_written_as_it_was_given(text: str) -> None:
    assert str(parse_csi(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "good", "noisy", "noisy:x", "noisy:inf", "aged:1.5", "aged:-1", "quantised:0", "quantised:17"),
        *("aged:nan", "10,noisy:3", "noisy:3,", "noisy:3,4", "perfect,noisy:3", "noisy:"),
    ],
)
def test_csi_that_there_is_not(text: str) -> None:
    with pytest.raises(NflaeError, match=r"there are perfect, .*noisy:DB") as error:
        parse_csi(text)
    assert "\n" not in str(error.value)


def test_perfect_csi_needs_one_snapshot_of_now() -> None:
    assert (CsiModel().slots, CsiModel().history, CsiModel().predicts) == (0, 1, False)
    model = parse_csi("predicted:3,ar,line,12,aged:2")
    assert (model.slots, model.history, model.predicts) == (5, 12, True)


@pytest.mark.parametrize(
    "text", ["predicted", "predicted:9", "predicted:4,best", "predicted:2,panel:0x3", "predicted:1,1"]
)
def test_predicted_csi_that_there_is_not(text: str) -> None:
    with pytest.raises(NflaeError, match="there are perfect"):
        parse_csi(text)


def test_a_kind_is_given_once() -> None:
    with pytest.raises(NflaeError, match="noisy is given twice"):
        parse_csi("noisy:3,aged:1,noisy:4")


def test_a_token_without_a_kind_is_an_argument_of_the_model_before(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Sequence[str]] = []

    def kind(arguments: Sequence[str]) -> NoisyCsi:
        seen.append(tuple(arguments))
        return NoisyCsi(1.0)

    monkeypatch.setitem(REGISTRY.loaded, "coarse", kind)
    parse_csi("aged:1,coarse:64,rest,3.5,noisy:1")
    parse_csi("coarse")
    assert seen == [("64", "rest", "3.5"), ()]
    assert "coarse:..." in csi_forms()


def test_parts_apply_in_the_order_of_the_stages_not_of_the_text() -> None:
    log: list[tuple[str, tuple[int, ...]]] = []
    parts = [Recorder(stage.name, stage, 1, 1 + stage, log) for stage in reversed(Stage)]
    model = CsiModel(tuple(parts))
    assert (model.slots, model.history, str(model)) == (4, 4, "PREDICTION,FEEDBACK,ESTIMATION,AGEING")
    history = torch.tensor([[0, 1, 2], [1, 2, 3]])
    known = model.estimate(channels(), history, context())
    assert [name for name, _ in log] == ["AGEING", "ESTIMATION", "FEEDBACK", "PREDICTION"]
    # every snapshot is estimated once; what follows sees the histories
    assert [shape for _, shape in log] == [(6, 1, 2, 8)] * 2 + [(2, 3, 2, 8)] * 2
    torch.testing.assert_close(known, channels()[[2, 3]])


def test_noise_and_quantisation_combine_and_quantisation_comes_last() -> None:
    history = torch.arange(6).unsqueeze(-1)
    found = parse_csi("quantised:2,noisy:0").estimate(channels(), history, context())
    parts = torch.view_as_real(found)
    for user in range(2):  # noise after quantisation would give more than the four levels of two bits
        assert len(np.unique(parts[0, user].numpy().round(4))) <= 4
    exact = parse_csi("quantised:2").estimate(channels(), history, context())
    assert not torch.allclose(found, exact)


def test_one_snapshot_has_one_noise_whichever_histories_it_is_in() -> None:
    history = torch.tensor([[0, 1], [1, 2]])
    kept: list[Tensor] = []

    class Keeping(Recorder):
        def __call__(self, snapshots: Tensor, context: CsiContext) -> Tensor:
            kept.append(snapshots)
            return snapshots

    model = CsiModel((NoisyCsi(0.0), Keeping("keeping", Stage.FEEDBACK)))
    model.estimate(channels(), history, context())
    torch.testing.assert_close(kept[0][0, 1], kept[0][1, 0], rtol=0, atol=0)
    assert not torch.allclose(kept[0][0, 1], channels()[1])


def test_help_lists_the_kinds_without_importing_them() -> None:
    assert {"perfect", "noisy:DB", "aged:SLOTS", "quantised:BITS"} <= set(csi_forms())
