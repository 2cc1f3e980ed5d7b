"""Blocks of a file reach a GPU by way of page-locked memory that is given back: on a fake and on a GPU."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from nflae_bridge.engine.schemes import load_scheme
from nflae_bridge.files import precode_file as module
from nflae_bridge.files.precode_file import Summary, drops_per_file_block, precode_file
from nflae_bridge.files.upload import upload, upload_stream
from simulator.channels.scenario import scenario
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Precoding, Scheme, arrays_on_host
from simulator.schemes import scheme
from tests.channel_files import random_channels
from tests.nflae_bridge.engine.fake_cuda import FakeCuda, FakeStream, install
from tests.nflae_bridge.files.test_precode_file import ANTENNAS, BUDGET, USERS, FakeFile, FakeResults, failing

CPU, PRECODE = torch.device("cpu"), scheme("rzf")


class Uploads:
    """The fake, its stream for uploads, and the most page-locked blocks that were in use at a time."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.cuda: FakeCuda = install(patch)
        self.stream, self.waited, self.most = FakeStream(self.cuda), 0, 0
        patch.setattr(module, "upload_stream", lambda device: self.stream)
        patch.setattr(Tensor, "record_stream", self.recorded)

    def recorded(self, stream: FakeStream) -> None:
        assert stream is self.cuda.current is not self.stream
        self.waited += 1

    @property
    def in_use(self) -> int:
        return sum(held() is not None for held in self.cuda.locked)

    def watched(self, made: Scheme) -> Scheme:
        def watching(batch: ChannelBatch, budget: LinkBudget) -> Precoding:
            self.most = max(self.most, self.in_use)
            return made(batch, budget)

        return watching


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> Uploads:
    return Uploads(monkeypatch)


def run(file: Any, results: Any, made: Scheme = PRECODE, device: torch.device = CPU, batch: int = 4) -> Summary:
    return precode_file(file, results, made, BUDGET, device, batch, "skip", lambda done, note: None)


def test_uploaded_blocks_with_bad_drops_and_a_smaller_last_one_give_the_same_results(uploads: Uploads) -> None:
    channels = random_channels(37, USERS, ANTENNAS)
    channels[5, 1, 2], channels[36, 0] = np.nan, 0  # of the last block every drop
    found, expected = FakeResults(), FakeResults()
    summary = run(FakeFile(channels), found, uploads.watched(PRECODE))
    assert [start for start, _ in found.written] == list(range(0, 37, 4))
    assert uploads.waited == 10
    assert len(uploads.cuda.locked) == 9  # none for the last block, which is empty
    assert uploads.most <= 5  # two read ahead, one at hand over, one computed, one that is read
    assert uploads.in_use == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "upload_stream", upload_stream)
        assert run(FakeFile(channels), expected).sum_rate == summary.sum_rate
    for name in found.written[0][1]:
        np.testing.assert_array_equal(found.whole(name), expected.whole(name))


def test_a_block_is_copied_on_the_stream_of_uploads_and_waited_for_where_it_is_used(uploads: Uploads) -> None:
    channels = random_channels(3, USERS, ANTENNAS)
    sent = upload(channels, CPU, uploads.stream)  # type: ignore[arg-type]
    assert sent.copied.recorded_on is uploads.stream  # type: ignore[union-attr]
    channels *= 0
    other = FakeStream(uploads.cuda)
    with torch.cuda.stream(other):  # type: ignore[arg-type]
        arrived = sent.arrived()
    assert (other.waits, uploads.waited) == (1, 1)
    assert arrived.abs().min() > 0


@pytest.mark.parametrize("stage", ["reading", "computing", "writing"])
def test_page_locked_memory_is_given_back_on_errors(uploads: Uploads, stage: str) -> None:
    channels = random_channels(60, USERS, ANTENNAS)
    channels[20] *= 1000
    file = FakeFile(channels, fails_at=20 if stage == "reading" else None)
    results = FakeResults(fails_at=20 if stage == "writing" else None)
    made: Callable[..., Precoding] = failing(100) if stage == "computing" else PRECODE
    with pytest.raises(NflaeError):
        run(file, results, made)
    assert [start for start, _ in results.written] == [0, 4, 8, 12, 16]
    gc.collect()  # the blocks that the traceback holds
    assert uploads.in_use == 0


def test_on_a_cpu_nothing_is_copied() -> None:
    channels = random_channels(2, USERS, ANTENNAS)
    sent = upload(channels, CPU, upload_stream(CPU)).arrived()
    assert sent.data_ptr() == channels.ctypes.data
    values = arrays_on_host({"channels": sent})["channels"]
    assert values.ctypes.data == channels.ctypes.data


def test_a_block_of_a_gpu_is_that_of_one_graph_where_memory_allows() -> None:
    assert drops_per_file_block(10, 256, 1, "cuda") == 1024
    assert drops_per_file_block(10, 256, 1, "cpu") == 273
    assert drops_per_file_block(4, 16, 1, "cpu") == 1985
    assert drops_per_file_block(64, 4096, 8, "cuda") == 16


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["nflae", "wmmse", "rzf", "sdma"])
def test_files_on_a_gpu_have_the_results_of_the_cpu(name: str) -> None:
    channels = scenario("paper", users=4).draw(5000, torch.Generator().manual_seed(1)).channels.numpy()
    channels[70, 1, 3] = np.inf
    gpu, cpu = FakeResults(), FakeResults()
    on_gpu = run(FakeFile(channels), gpu, load_scheme(name, "tiny", "cuda"), torch.device("cuda"), 1024)
    on_cpu = run(FakeFile(channels), cpu, load_scheme(name, "tiny", "cpu"), CPU, 1024)
    assert on_gpu.drops == 5000
    assert on_gpu.mean_sum_rate == pytest.approx(on_cpu.mean_sum_rate, rel=1e-3)
    np.testing.assert_allclose(np.linalg.norm(np.delete(gpu.whole("precoder"), 70, 0), axis=-1), 1, rtol=1e-5)
    assert (gpu.whole("near_field") == cpu.whole("near_field")).mean() > 0.99  # on the CPU the curvature decides first
