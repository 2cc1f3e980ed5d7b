"""Settings of the whole suite: slow tests on request or in CI, one thread, reproducible hypothesis runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

# pytest puts tests/ on the path, where tests/simulator would pass for the (namespace) package `simulator`.
sys.path.insert(0, str(Path(__file__).parents[1]))
# Before numpy and torch are loaded, and for every process that a test starts: the workers share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
import pytest
import scipy.io
import torch
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, settings

from tests.channel_files import Run, WriteMat
from tests.nflae_bridge.live.live_server import LiveServer
from tests.ports import free_tcp_port

if TYPE_CHECKING:
    from nflae_bridge.network.model import PrecodingNetwork

torch.set_num_threads(1)
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when kernels are defined, by whichever test imports them first

settings.register_profile(
    "nflae",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("nflae")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too (always so if CI is set)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # The longest first: at the end they would run on one worker while the others have nothing left.
    items.sort(key=lambda item: item.path.name != "test_docs.py")
    if not torch.cuda.is_available():
        no_gpu = pytest.mark.skip(reason="this machine has no CUDA device")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(no_gpu)
    if config.getoption("--slow") or os.environ.get("CI"):
        return
    skip = pytest.mark.skip(reason="slow: give --slow, or set CI, to run it")
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(skip)


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name parameters that are bytes by their argument: their content may differ from one worker to the next."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Draws of PyTorch without a generator, initial weights too, are the same whatever the worker ran before."""
    torch.manual_seed(0)


@pytest.fixture
def make_network() -> Callable[..., PrecodingNetwork]:
    """Makes a small random network; ``loud`` weights make every input and position count, as training does."""
    from nflae_bridge.network.config import BackboneConfig, EncoderConfig, NetworkConfig
    from nflae_bridge.network.model import PrecodingNetwork

    def make(
        kind: str = "gram",
        attention: str = "coherence",
        antennas: int = 8,
        loud: bool = True,
        head_width: int = 0,
        **backbone: Any,
    ) -> PrecodingNetwork:
        torch.manual_seed(backbone.pop("seed", 0))
        sizes = {"width": 16, "layers": 2, "heads": 2, "attention": attention} | backbone
        encoder = EncoderConfig(kind=kind, blocks=1, antennas=antennas, edge_width=8)  # type: ignore[arg-type]
        network = PrecodingNetwork(NetworkConfig(encoder, BackboneConfig(**sizes), head_width))
        if loud:
            for parameter in [*network.backbone.parameters(), *network.heads.parameters()]:
                if parameter.ndim > 1:
                    torch.nn.init.normal_(parameter, std=0.4)
        return network.eval()

    return make


@pytest.fixture
def nflae() -> Run:
    """Runs ``nflae ARGUMENTS``; what isn't a string becomes one."""
    from nflae_bridge.cli.group import main

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    return run


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny network as it is before training, labels in both classes."""
    from nflae_bridge.network.checkpoint import save_checkpoint
    from nflae_bridge.network.model import PrecodingNetwork
    from nflae_bridge.training.presets import recipe

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("models") / "untrained"
    card = {"preset": "tiny", "step": 0, "validation": {"rate_over_wmmse": 0.97, "accuracy": 0.5}}
    save_checkpoint(folder, PrecodingNetwork(recipe("tiny").network), card)
    return folder


@pytest.fixture
def write_mat(tmp_path: Path) -> WriteMat:
    """Writes variables to in.mat: H (drops, users, antennas) as N x K x S, the others as they are."""

    def write(H: npt.NDArray[Any] | None = None, name: str = "in.mat", **others: Any) -> Path:
        stated = {"layout": "nks"} if np.ndim(H) == 3 else {}
        content = others if H is None else {"H": np.asarray(H).T, **stated, **others}
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
    return free_tcp_port()
