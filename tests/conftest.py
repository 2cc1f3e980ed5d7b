"""Settings of the whole suite: slow tests on request or in CI, one thread, reproducible hypothesis runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

# pytest puts tests/ on the path, where tests/simulator would pass for the (namespace) package `simulator`.
sys.path.insert(0, str(Path(__file__).parents[1]))

import pytest
import torch
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from nflae_bridge.network.model import PrecodingNetwork

torch.set_num_threads(1)

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
    if config.getoption("--slow") or os.environ.get("CI"):
        return
    skip = pytest.mark.skip(reason="slow: give --slow, or set CI, to run it")
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(skip)


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
