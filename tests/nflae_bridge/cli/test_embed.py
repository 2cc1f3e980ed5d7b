"""``nflae embed``: the embedding of every user and drop, in order, and its refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from matlab_io import write_channels
from nflae_bridge.network.checkpoint import save_checkpoint
from nflae_bridge.network.config import BackboneConfig
from nflae_bridge.network.encoders.masked import MaskConfig, MaskedChannelNetwork
from tests.channel_files import Run


@pytest.fixture
def model(tmp_path: Path) -> tuple[Path, MaskedChannelNetwork]:
    torch.manual_seed(0)
    network = MaskedChannelNetwork(MaskConfig(4, 4, BackboneConfig(width=8, layers=1, heads=2))).eval()
    save_checkpoint(tmp_path / "model", network, {})
    return tmp_path / "model", network


def channels(drops: int, antennas: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    return (rng.normal(size=(drops, 3, antennas, 2)) @ [1, 1j]).astype(np.complex64)


@torch.no_grad()
def test_embedding_of_every_user(nflae: Run, tmp_path: Path, model: tuple[Path, MaskedChannelNetwork]) -> None:
    folder, network = model
    h = channels(5, 12)
    write_channels(tmp_path / "in.mat", [h], users=3, antennas=12, drops=5)
    done = nflae("embed", tmp_path / "in.mat", "-o", tmp_path / "out.mat", "--model", folder)
    assert done.exit_code == 0, done.output
    saved = scipy.io.loadmat(tmp_path / "out.mat", simplify_cells=True)
    assert saved["embedding"].shape == (16, 3, 5)
    assert saved["embedding"].dtype == np.float32
    expected = network.embed(torch.from_numpy(h)).numpy()
    np.testing.assert_allclose(saved["embedding"].transpose(2, 1, 0), expected, rtol=1e-4, atol=1e-5)
    assert saved["nflae_info"]["model"] == "model"


def test_too_many_antennas(nflae: Run, tmp_path: Path, model: tuple[Path, MaskedChannelNetwork]) -> None:
    write_channels(tmp_path / "in.mat", [channels(1, 17)], users=3, antennas=17, drops=1)
    done = nflae("embed", tmp_path / "in.mat", "-o", tmp_path / "out.mat", "--model", model[0])
    assert done.exit_code == 1
    assert "up to 16 antennas, not 17" in done.stderr
    assert not (tmp_path / "out.mat").exists()


def test_model_of_another_task(nflae: Run, tmp_path: Path) -> None:
    write_channels(tmp_path / "in.mat", [channels(1, 8)], users=3, antennas=8, drops=1)
    done = nflae("embed", tmp_path / "in.mat", "-o", tmp_path / "out.mat", "--model", "tiny")
    assert done.exit_code == 1
    assert "model tiny is for task precode, expected one for task mask" in done.stderr
