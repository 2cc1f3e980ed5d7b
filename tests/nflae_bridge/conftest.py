"""Fixtures: the command line in this process, a model without training, channel files to run it on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.io
import torch
from click.testing import CliRunner, Result

from tests.nflae_bridge.channel_files import Run, WriteMat
from tests.nflae_bridge.live_server import LiveServer


@pytest.fixture
def nflae() -> Run:
    """Runs ``nflae ARGUMENTS``; what isn't a string becomes one."""
    from nflae_bridge.cli import main

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    return run


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny network as it is before training, labels in both classes."""
    from nflae_bridge.network.checkpoint import save_checkpoint
    from nflae_bridge.network.model import PrecodingNetwork
    from nflae_bridge.training.presets import PRESETS

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("models") / "untrained"
    card = {"preset": "tiny", "step": 0, "validation": {"rate_over_wmmse": 0.97, "accuracy": 0.5}}
    save_checkpoint(folder, PrecodingNetwork(PRESETS["tiny"].network), card)
    return folder


@pytest.fixture
def write_mat(tmp_path: Path) -> WriteMat:
    """Writes variables to in.mat: H (drops, users, antennas) as N x K x S, the others as they are."""

    def write(H: npt.NDArray[Any] | None = None, name: str = "in.mat", **others: Any) -> Path:
        content = others if H is None else {"H": np.asarray(H).T, **others}
        scipy.io.savemat(tmp_path / name, content, do_compression=True)
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def server() -> Iterator[LiveServer]:
    """A real ``nflae serve`` with the shipped model, for tests that leave it as it is."""
    with LiveServer() as running:
        yield running


@pytest.fixture
def free_port() -> int:
    """A TCP port of the loopback that nobody listens on."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])
