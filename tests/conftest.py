"""Settings of the whole suite: slow tests on request or in CI, one thread, reproducible hypothesis runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# pytest puts tests/ on the path, where tests/simulator would pass for the (namespace) package `simulator`.
sys.path.insert(0, str(Path(__file__).parents[1]))

import pytest
import torch
from hypothesis import HealthCheck, settings

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
