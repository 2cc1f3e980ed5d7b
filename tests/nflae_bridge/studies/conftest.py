"""Worker processes of Dask in forks of one process that holds torch: each is spared its import."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def warm_workers() -> Iterator[None]:
    """Dask starts its processes by a fork server."""
    dask, utils = pytest.importorskip("dask"), pytest.importorskip("distributed.utils")
    modules = [
        "distributed",
        "nflae_bridge.studies.evaluation.evaluate",
        "nflae_bridge.studies.link.sweep",
        "simulator.link_level.chain",
    ]
    multiprocessing.set_forkserver_preload(modules)
    utils._forkserver_preload_set = True  # Dask's own list has no torch
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        yield
