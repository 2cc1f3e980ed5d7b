"""The server's device computes and checks requests by recorded answers: on the fake of `fake_cuda`."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from nflae_bridge.engine.cuda_graphs.graphs import CudaGraphs
from nflae_bridge.engine.cuda_graphs.schemes import RecordedScheme
from nflae_bridge.engine.engine import Engine
from nflae_bridge.engine.schemes import load_scheme
from nflae_bridge.files.precode_file import precode_channels
from nflae_bridge.live.errors import WireError
from nflae_bridge.live.protocol.answers import describe_answer, encode_answer
from nflae_bridge.live.protocol.messages import PrecodeRequest
from nflae_bridge.live.server.computation.device import Device
from nflae_bridge.live.server.computation.drops import page_locked_channels
from nflae_bridge.live.server.computation.micro_batches import Job
from nflae_bridge.network.shipped import load_model
from simulator.downlink.budget import LinkBudget
from simulator.schemes import scheme
from tests.nflae_bridge.engine.fake_cuda import FakeCuda, install, needs_interpreter
from tests.simulator.definitions import draw_channels


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return install(monkeypatch)


def recording_device() -> Device:
    device, cpu = Device("tiny", "cpu"), torch.device("cpu")
    engine = Engine(load_model("tiny", cpu), cpu, backend="cuda_graphs")
    device._engines._engines = {device.model: engine}
    device._classical = {
        ("wmmse:iterations=2", engine.checkpoint.name): RecordedScheme("wmmse:iterations=2", CudaGraphs(cpu))
    }
    device.device = SimpleNamespace(type="cuda")  # type: ignore[assignment]
    return device


def request_of(drops: int, seed: int = 1, **options: Any) -> PrecodeRequest:
    return PrecodeRequest("", draw_channels(seed, users=3, antennas=24, drops=drops).numpy(), **options)


def outcomes(device: Device, *requests: PrecodeRequest) -> list[Any]:
    return [answer.outcome for answer in device.compute([Job([], request, 0.0) for request in requests])]


def assert_alike(found: Any, expected: Any) -> None:
    assert list(found) == list(expected)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_requests_of_a_micro_batch_are_computed_at_once_and_a_bad_one_affects_no_other(cuda: FakeCuda) -> None:
    plain, device = Device("tiny", "cpu"), recording_device()
    requests = [request_of(2), replace(request_of(17, 2), want=("power", "near_field")), request_of(1, 3)]
    for found, expected in zip(outcomes(device, *requests), outcomes(plain, *requests), strict=True):
        assert_alike(found, expected)
    assert cuda.captures == 1
    bad = request_of(2, 4)
    bad.channels[1, 2] = 0
    good, fault = outcomes(device, requests[0], bad)
    assert_alike(good, outcomes(plain, requests[0])[0])
    assert isinstance(fault, WireError)
    assert "drop 2, user 3 is zero at every antenna" in str(fault)


@needs_interpreter
def test_wmmse_is_recorded_with_the_labels_of_the_network(cuda: FakeCuda) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    plain, device = Device("tiny", "cpu"), recording_device()
    request = request_of(2, scheme="wmmse:iterations=2")
    device._classical["wmmse:iterations=2", "tiny"].arrays(
        request.channels, request.budget, ["power"], device._engines.of(request).near_field_score
    )
    found = outcomes(device, request)[0]
    assert cuda.captures == 1
    assert_alike(found, outcomes(plain, request)[0])


def test_a_large_request_is_copied_once_and_its_precoders_leave_from_page_locked_memory(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, copies, original = recording_device(), [], np.copyto
    first, request = request_of(200), request_of(200, 2)
    request.channels.flags.writeable = False  # as in a frame
    outcomes(device, first)  # captures
    locked = len(cuda.locked)

    def copyto(to: Any, values: Any, **options: Any) -> None:
        copies.append(values.nbytes)
        original(to, values, **options)

    monkeypatch.setattr(np, "copyto", copyto)
    found = outcomes(device, request)[0]
    assert copies == [request.channels.nbytes]
    assert len(cuda.locked) == locked + 2  # the channels and the answer, of PyTorch's pool
    names = [entry.name for entry in describe_answer(request)]
    precoder = dict(zip(names, encode_answer(request, found, {}, {})[1:], strict=True))["precoder"]
    assert cuda.is_locked(torch.frombuffer(precoder, dtype=torch.uint8))
    assert np.frombuffer(precoder, np.uint8).ctypes.data == found["precoder"].ctypes.data
    assert cuda.locked[-1]() is not None
    del found, precoder
    assert [held() for held in cuda.locked[-2:]] == [None, None]


def test_channels_of_several_requests_are_joined_in_page_locked_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, original = [], torch.empty

    def empty(*sizes: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        seen.append(pin_memory)
        return original(*sizes, **options)

    monkeypatch.setattr(torch, "empty", empty)
    first, second = request_of(2), request_of(3, 2, convention="direct")
    second = replace(second, channels=second.channels.astype(np.complex128))
    joined = page_locked_channels([first, second], 0, 5)
    np.testing.assert_array_equal(joined[:2], first.channels)
    np.testing.assert_array_equal(joined[2:], second.channels.conj().astype(np.complex64))
    np.testing.assert_array_equal(page_locked_channels([second], 1, 3), joined[3:])
    assert joined.dtype == np.complex64
    assert seen == [True, True]


@needs_interpreter
def test_files_and_requests_with_labels_are_computed_by_the_same_kernels(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    monkeypatch.setattr("nflae_bridge.engine.schemes.CudaGraphs", lambda device: CudaGraphs(torch.device("cpu")))
    monkeypatch.setattr("nflae_bridge.engine.schemes.choose_device", lambda name: SimpleNamespace(type=name))
    budget, spec = LinkBudget(1.0, 0.01), "mrt"
    channels, near = draw_channels(5, users=2, antennas=8, drops=1).numpy(), np.array([[True, False]])
    expected = precode_channels(scheme(spec), channels, budget, torch.device("cpu"), given=near)
    used = load_scheme(spec, device="cuda")
    precode_channels(used, channels, budget, torch.device("cpu"), given=near)
    assert cuda.captures == 0
    found = precode_channels(used, channels, budget, torch.device("cpu"), given=near)
    assert (cuda.captures, cuda.replays) == (1, 1)
    for name in ("precoder", "power", "rate", "near_field"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-5)
    device, request = recording_device(), PrecodeRequest("", channels, budget, scheme=spec, near_field=near)
    for number in range(40):
        device._classical_scheme(f"wmmse:iterations={number + 1}", device._engines.of(request))
    assert isinstance(device._classical_scheme(spec, device._engines.of(request)), RecordedScheme)
    assert len(device._classical) == 16
    device._classical[spec, "tiny"], device.device = used, torch.device("cpu")
    np.testing.assert_allclose(outcomes(device, request)[0]["power"], expected.power.numpy(), rtol=1e-4, atol=1e-5)
    assert (cuda.captures, cuda.replays) == (1, 2)
    assert load_scheme("sdma", device="cuda") is scheme("sdma")
    assert load_scheme(spec, device="cpu") is scheme(spec)
