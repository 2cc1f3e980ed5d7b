"""Work larger than one machine: independent units, computed here or by the workers of a Dask cluster.

A unit says everything that its outcome depends on, seeds included. So it doesn't matter which worker computes it, in
what company, or whether it is computed twice because a worker died: the outcomes are the same.

Dask sends units and outcomes as pickles: whoever can reach a scheduler can run code on its workers. A cluster belongs
on a network one trusts, or behind Dask's own TLS.
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

# Under way for each of the cluster's threads: one being computed, one that waits where it will be.
_UNITS_A_THREAD = 2
_PATIENCE_SECONDS = 10
_DESERTED = 3  # times in a row that nobody works there: one that died may be about to be started again
_LOOK_SECONDS = 0.01
_LARGEST_UNIT = "1 GiB"


class ClusterLost(NflaeError):
    """The cluster can't be reached any more. What it gave so far is good."""


def run_units(
    work: Callable[[Unit], Outcome], units: Iterable[Unit], cluster: str | None
) -> Generator[tuple[int, Outcome], None, None]:
    """(index, work(units[index])) for every unit, as they complete.

    work: a function of a module (or a `functools.partial` of one); it, units and outcomes have to be picklable.
    units: taken one by one, only as many as keep the workers busy: two a thread.
    cluster: None: here, in order. ``local:N``: N processes of one thread each on this machine, gone afterwards. Else
    the address of a Dask scheduler, ``tcp://host:8786``.

    Units whose worker dies are computed again by another. Closing the generator cancels what has not begun
    (`contextlib.closing` does so however the loop is left). On a cluster torch uses one thread a unit.

    Raises, when the first outcome is asked for, NflaeError if there is no such cluster, nobody works there, its version
    of this package is another or Dask is not installed; later `ClusterLost`; and whatever ``work`` raises, as it is.
    """
    if cluster is None:
        for index, unit in enumerate(units):
            yield index, work(unit)
        return
    with _connected(cluster) as client:
        yield from _distribute(client, cluster, work, units)


def local_processes(cluster: str) -> int | None:
    """N of ``local:N``; None for a scheduler's address. Raises NflaeError for what is neither."""
    if count := re.fullmatch(r"local:([1-9]\d{0,3})", cluster):
        return int(count[1])
    if cluster.startswith("local:") or not re.fullmatch(r"((tcp|tls|ws|wss)://)?[^\s/]+:\d+", cluster):
        raise NflaeError(f"{cluster!r} is no cluster: give local:N with a number of processes, or tcp://HOST:PORT")
    return None


def _distribute(
    client: Client, cluster: str, work: Callable[[Unit], Outcome], units: Iterable[Unit]
) -> Generator[tuple[int, Outcome], None, None]:
    from distributed import as_completed

    waiting, exhausted, done = enumerate(units), False, 0
    under_way: dict[str, tuple[int, Future]] = {}
    # With its result: one that is done but still to be fetched would be waited for for ever if its worker left now.
    completed = as_completed(loop=client.loop, with_results=True, raise_errors=False)
    try:
        while not exhausted or under_way:
            with _telling_of_loss(cluster, done):
                # Asked anew each time: workers come and go.
                room = max(1, _UNITS_A_THREAD * sum(client.nthreads().values())) - len(under_way)
            chosen = list(islice(waiting, max(room, 0)))
            exhausted = len(chosen) < room
            with _telling_of_loss(cluster, done):
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
    """The next future that is done and its result. Raises ConnectionError once nobody has worked there for a while.

    Dask itself would wait for workers for ever.
    """
    looked, deserted = time.monotonic(), 0
    while not completed.has_ready():
        time.sleep(_LOOK_SECONDS)
        if time.monotonic() - looked > _PATIENCE_SECONDS:
            looked, deserted = time.monotonic(), 0 if client.nthreads() else deserted + 1
            if deserted == _DESERTED:
                raise ConnectionError("no worker is left")
    ready: tuple[Future, Any] = next(completed)
    return ready


def _outcome(future: Future, result: Any, index: int, cluster: str, done: int) -> Any:
    from distributed import KilledWorker

    if future.status == "error":
        _, error, trace = result
        if isinstance(error, KilledWorker):
            raise NflaeError(
                f"cluster {cluster}: the workers died on unit {index + 1}, again and again; have they memory enough?"
            ) from error
        raise error.with_traceback(trace)
    if isinstance(result, CancelledError):
        with _telling_of_loss(cluster, done):
            raise result
    return result


def _on_one_thread(work: Callable[[Unit], Outcome], unit: Unit) -> Outcome:
    """On a worker: its threads are Dask's to count, and one sums up the same way everywhere."""
    import torch

    torch.set_num_threads(1)
    return work(unit)


def dask_setup(worker: object) -> None:
    """Dask calls this in a process of ``local:N``: Ctrl-C is for the process that started it, which then ends this."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _version() -> str:
    return __version__


@contextmanager
def _telling_of_loss(cluster: str, done: int) -> Iterator[None]:
    """Raise `ClusterLost` for what Dask raises once its scheduler has gone."""
    try:
        yield
    except (OSError, RuntimeError, CancelledError, TimeoutError) as error:
        raise ClusterLost(
            f"cluster {cluster}: lost after {done} units; start it again and repeat the command"
        ) from error


@contextmanager
def _connected(cluster: str) -> Iterator[Client]:
    """A client of the cluster, checked to be of our version. ``local:N`` is started before and stopped afterwards."""
    require("distributed", "--cluster")
    processes = local_processes(cluster)
    import dask

    settings = {
        "distributed.comm.timeouts.connect": f"{_PATIENCE_SECONDS}s",
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
        client = Client(address, timeout=_PATIENCE_SECONDS, set_as_default=False)
    except OSError as error:
        raise NflaeError(
            f"cluster {cluster}: can't be reached; is `dask scheduler` running there? Or give local:N"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_PATIENCE_SECONDS)
        except TimeoutError as error:
            raise NflaeError(f"cluster {cluster}: nobody works there; start `dask worker {address}`") from error
        _check_versions(client, cluster)
        yield client


def _check_versions(client: Client, cluster: str) -> None:
    """The scheduler unpacks units on their way, so it needs the package like its workers."""
    try:
        versions = {*client.run(_version).values(), client.run_on_scheduler(_version)}
    except ImportError as error:
        raise NflaeError(
            f"cluster {cluster}: nflae-bridge isn't installed on its scheduler and all its workers; install it there"
        ) from error
    if versions != {__version__}:
        found = ", ".join(sorted(versions))
        raise NflaeError(f"cluster {cluster}: it has nflae-bridge {found} and this is {__version__}; use one version")


@contextmanager
def _quiet() -> Iterator[None]:
    """Dask logs every worker and connection it loses; what matters of it is raised here as an error."""
    import distributed  # noqa: F401 - sets its loggers up when imported

    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
