"""Distribute independent units of work over this process or the workers of a Dask cluster.

A unit holds everything that its outcome depends on, seeds included. The outcomes are therefore the same whichever
worker computes a unit, and if it is computed twice because a worker died.

Dask transfers units and outcomes as pickles: anyone with access to a scheduler can run code on its workers. Run
clusters on a trusted network only, or behind Dask's own TLS.
"""

from __future__ import annotations

import logging
import re
import signal
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from matlab_io.errors import NflaeError
from matlab_io.extras import require
from matlab_io.version import __version__

if TYPE_CHECKING:
    from distributed import Client, Future

Unit = TypeVar("Unit")
Outcome = TypeVar("Outcome")

# Per thread of the cluster: one unit in computation, one waiting on the same worker.
_UNITS_PER_THREAD = 2
_TIMEOUT_SECONDS = 10
_MAX_CHECKS_WITHOUT_WORKER = 3  # in a row: a worker that died may be about to restart
_POLL_SECONDS = 0.01
_LARGEST_UNIT = "1 GiB"


class ClusterLost(NflaeError):
    """Error of a cluster that cannot be reached any more; the outcomes received so far are valid."""


def run_units(
    work: Callable[[Unit], Outcome], units: Iterable[Unit], cluster: str | None
) -> Generator[tuple[int, Outcome], None, None]:
    """Yield (index, work(units[index])) for every unit, as the units complete.

    Units whose worker dies are computed again on another. Closing the generator cancels units not yet begun
    (`contextlib.closing` does so however the loop is left). On a cluster PyTorch uses one thread per unit.

    Parameters
    ----------
    work
        A function of a module, or a `functools.partial` of one; it, units and outcomes must be picklable.
    units
        Taken one by one, only as many as keep the workers busy: two per thread.
    cluster
        None: in this process, in order. ``local:N``: N processes of one thread each on this machine, for this call
        only. Else the address of a Dask scheduler, ``tcp://host:8786``.

    Yields
    ------
    tuple
        Index and outcome.

    Raises
    ------
    NflaeError
        With the first outcome: if the cluster cannot be reached, has no worker or another version of this package, or
        Dask is not installed.
    ClusterLost
        If the cluster is lost later. Exceptions of ``work`` are raised as they are.
    """
    if cluster is None:
        for index, unit in enumerate(units):
            yield index, work(unit)
        return
    with _connected(cluster) as client:
        yield from _distribute(client, cluster, work, units)


def local_processes(cluster: str) -> int | None:
    """Parse the name of a cluster.

    Parameters
    ----------
    cluster
        ``local:N`` or the address of a Dask scheduler.

    Returns
    -------
    int or None
        N; None for an address.

    Raises
    ------
    NflaeError
        For any other text.
    """
    if count := re.fullmatch(r"local:([1-9]\d{0,3})", cluster):
        return int(count[1])
    if cluster.startswith("local:") or not re.fullmatch(r"((tcp|tls|ws|wss)://)?[^\s/]+:\d+", cluster):
        raise NflaeError(f"{cluster!r} is not a cluster: give local:N with a number of processes, or tcp://HOST:PORT")
    return None


def _distribute(
    client: Client, cluster: str, work: Callable[[Unit], Outcome], units: Iterable[Unit]
) -> Generator[tuple[int, Outcome], None, None]:
    from distributed import as_completed

    waiting, exhausted, done = enumerate(units), False, 0
    under_way: dict[str, tuple[int, Future]] = {}
    # With results: a finished unit whose worker leaves before its result is fetched would never complete.
    completed = as_completed(loop=client.loop, with_results=True, raise_errors=False)
    try:
        while not exhausted or under_way:
            with _raising_cluster_lost(cluster, done):
                # Counted anew each time: workers join and leave.
                free = max(1, _UNITS_PER_THREAD * sum(client.nthreads().values())) - len(under_way)
            chosen = list(islice(waiting, max(free, 0)))
            exhausted = len(chosen) < free
            with _raising_cluster_lost(cluster, done):
                for index, unit in chosen:
                    future = client.submit(_on_one_thread, work, unit, pure=False)
                    under_way[future.key] = index, future
                    completed.add(future)
                if not under_way:
                    return
                future, result = _next(completed, client)
            index, _ = under_way.pop(future.key)
            yield index, _outcome(future, result, index, cluster, done)
            done += 1
    finally:
        if client.status == "running":
            client.cancel([future for _, future in under_way.values()], force=True)


def _next(completed: Any, client: Client) -> tuple[Future, Any]:
    """Return the next finished future and its result; raise ConnectionError after a time without any worker.

    Dask itself would wait for workers without limit.
    """
    checked, without_worker = time.monotonic(), 0
    while not completed.has_ready():
        time.sleep(_POLL_SECONDS)
        if time.monotonic() - checked > _TIMEOUT_SECONDS:
            checked, without_worker = time.monotonic(), 0 if client.nthreads() else without_worker + 1
            if without_worker == _MAX_CHECKS_WITHOUT_WORKER:
                raise ConnectionError("no worker is left")
    ready: tuple[Future, Any] = next(completed)
    return ready


def _outcome(future: Future, result: Any, index: int, cluster: str, done: int) -> Any:
    from distributed import KilledWorker

    if future.status == "error":
        _, error, trace = result
        if isinstance(error, KilledWorker):
            raise NflaeError(
                f"cluster {cluster}: the workers died on unit {index + 1} several times; check their memory"
            ) from error
        raise error.with_traceback(trace)
    if isinstance(result, CancelledError):
        with _raising_cluster_lost(cluster, done):
            raise result
    return result


def _on_one_thread(work: Callable[[Unit], Outcome], unit: Unit) -> Outcome:
    """Run a unit on a worker with one thread: Dask counts the threads, and sums are rounded alike everywhere."""
    import torch

    torch.set_num_threads(1)
    return work(unit)


def dask_setup(worker: object) -> None:
    """Ignore Ctrl-C in a process of ``local:N``, which the process that started it ends; Dask calls this.

    Parameters
    ----------
    worker
        Dask's worker, not used.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _version() -> str:
    return __version__


@contextmanager
def _raising_cluster_lost(cluster: str, done: int) -> Iterator[None]:
    """Raise `ClusterLost` for what Dask raises once its scheduler has gone."""
    try:
        yield
    except (OSError, RuntimeError, CancelledError, TimeoutError) as error:
        raise ClusterLost(
            f"cluster {cluster}: lost after {done} units; start it again and repeat the command"
        ) from error


@contextmanager
def _connected(cluster: str) -> Iterator[Client]:
    """Connect to a cluster of the same version; ``local:N`` is started before and stopped afterwards."""
    require("distributed", "--cluster")
    processes = local_processes(cluster)
    import dask
    import distributed  # noqa: F401 - before settings: its defaults, set on import, would be undone with them

    settings = {
        "distributed.comm.timeouts.connect": f"{_TIMEOUT_SECONDS}s",
        # Units carry their channels: a scattered array would be lost with the worker that holds it.
        "distributed.admin.large-graph-warning-threshold": _LARGEST_UNIT,
    }
    with dask.config.set(settings), _quiet():
        if processes is None:
            with _client(cluster, cluster) as client:
                yield client
            return
        from distributed import LocalCluster

        with (
            tempfile.TemporaryDirectory(prefix="nflae-cluster-") as folder,
            dask.config.set({"temporary-directory": folder}),
            LocalCluster(
                n_workers=processes,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",  # None would take port 8787 of every interface
                memory_limit=0,
                preload=[__name__],
                silence_logs=logging.CRITICAL,
            ) as started,
            _client(started.scheduler_address, cluster) as client,
        ):
            yield client


@contextmanager
def _client(address: str, cluster: str) -> Iterator[Client]:
    from distributed import Client

    try:
        client = Client(address, timeout=_TIMEOUT_SECONDS, set_as_default=False)
    except OSError as error:
        raise NflaeError(
            f"cluster {cluster}: cannot be reached; start `dask scheduler` there, or give local:N"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_TIMEOUT_SECONDS)
        except TimeoutError as error:
            raise NflaeError(f"cluster {cluster}: has no worker; start `dask worker {address}`") from error
        _check_versions(client, cluster)
        yield client


def _check_versions(client: Client, cluster: str) -> None:
    """Raise NflaeError unless scheduler, which unpickles units, and workers have this version of the package."""
    try:
        versions = {*client.run(_version).values(), client.run_on_scheduler(_version)}
    except ImportError as error:
        raise NflaeError(
            f"cluster {cluster}: nflae-bridge is not installed on its scheduler and all its workers; install it there"
        ) from error
    if versions != {__version__}:
        found = ", ".join(sorted(versions))
        raise NflaeError(f"cluster {cluster}: has nflae-bridge {found}, this machine {__version__}; use one version")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Dask's log of lost workers and connections; failures are raised as errors."""
    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
