"""The exported graphs against PyTorch, and what becomes of a graph that is missing or of other weights."""

from __future__ import annotations

import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from matlab_io.errors import NflaeError
from nflae_bridge.engine.engine import Engine
from nflae_bridge.engine.onnx_graphs import PowerGraph, WavefrontGraph
from nflae_bridge.network.checkpoint import WEIGHTS, load_checkpoint, save_checkpoint
from nflae_bridge.network.config import BackboneConfig, EncoderConfig, NetworkConfig
from nflae_bridge.network.encoders.gram import FeatureInputs
from nflae_bridge.network.encoders.interface import UserInputs
from nflae_bridge.network.encoders.wavefront import SUBARRAYS, fourier, subarray_length
from nflae_bridge.network.export import (
    POWER_INPUTS,
    POWERS,
    WAVEFRONT,
    WEIGHTS_HASH,
    export_checkpoint,
    export_graphs,
    file_hash,
    is_exportable,
)
from nflae_bridge.network.model import PrecodingNetwork
from nflae_bridge.network.shipped import SHIPPED
from simulator.channels.scenario import scenario
from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import normalised_gram
from simulator.downlink.precoding import ChannelBatch
from tests.simulator.definitions import draw_channels

Run = onnxruntime.InferenceSession
NAMES = ("tiny", "small")
TINY, GRAPH = load_checkpoint(SHIPPED / "tiny"), WavefrontGraph(SHIPPED / "tiny")


def network(seed: int, heads: int, per_head: int, layers: int, blocks: int, head_width: int) -> PrecodingNetwork:
    """A small network whose weights are large enough for every part to matter."""
    torch.manual_seed(seed)
    backbone = BackboneConfig(width=heads * per_head, layers=layers, heads=heads, attention="coherence")
    config = NetworkConfig(EncoderConfig(kind="gram", blocks=blocks, edge_width=8), backbone, head_width)
    built = PrecodingNetwork(config).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            spread = 0.3 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5
            parameter.add_(torch.randn_like(parameter), alpha=spread)
    return built


def session(graph: Path) -> Run:
    return Run(str(graph), providers=["CPUExecutionProvider"])


def exported(folder: Path, built: PrecodingNetwork, name: str) -> Run:
    """A session of a network's graph, exported to a new checkpoint in the folder."""
    save_checkpoint(folder, built, {})
    export_checkpoint(folder)
    return session(folder / name)


def quantities(seed: int, drops: int, users: int, snr_db: float = 10.0) -> tuple[UserInputs, FeatureInputs]:
    generator = torch.Generator().manual_seed(seed)
    channels = torch.randn(drops, users, 24, dtype=torch.complex64, generator=generator)
    gram = normalised_gram(channels, LinkBudget(1.0, 24 * 10 ** (-snr_db / 10)))
    one = torch.ones(drops, dtype=torch.float64)
    return UserInputs(None, gram, one, 0 * one, torch.zeros(drops, users, dtype=torch.bool)), FeatureInputs.of(gram)


def arrays(values: FeatureInputs) -> dict[str, np.ndarray]:
    return {name: getattr(values, name).contiguous().numpy() for name in POWER_INPUTS}


@pytest.mark.parametrize(
    "shape",
    [(2, 8, 2, 0, 0), (1, 12, 1, 0, 0), (4, 4, 3, 0, 0), (2, 8, 1, 1, 0), (2, 8, 1, 0, 6)],
    ids=lambda shape: "x".join(map(str, shape)),
)
def test_powers_are_pytorchs_for_every_number_of_drops_and_users(
    shape: tuple[int, int, int, int, int], tmp_path: Path
) -> None:
    built = network(3, *shape)
    run = exported(tmp_path, built, POWERS)
    for seed, (drops, users, snr_db) in enumerate([(1, 1, 0.0), (1, 10, 20.0), (4, 3, -30.0), (3, 12, 30.0)]):
        inputs, values = quantities(seed, drops, users, snr_db)
        with torch.no_grad():
            expected = built(inputs)
        uplink, power = run.run(None, arrays(values))[0].reshape(2, drops, users)
        assert uplink.dtype == power.dtype == np.float64
        np.testing.assert_allclose(uplink, expected.dual_power_fractions.numpy(), rtol=5e-4, atol=1e-6)
        np.testing.assert_allclose(power, expected.power_fractions.numpy(), rtol=5e-4, atol=1e-6)
        np.testing.assert_allclose(power.sum(1), 1, rtol=1e-6)


def test_a_user_that_is_given_nothing_makes_no_drop_without_numbers(tmp_path: Path) -> None:
    built = network(1, 2, 8, 2, 0, 0)
    with torch.no_grad():
        built.heads["power"].bias.fill_(-300.0)
    _, values = quantities(1, 1, 4)
    _, power = exported(tmp_path, built, POWERS).run(None, arrays(values))[0].reshape(2, 1, 4)
    assert np.isfinite(power).all()
    assert power.std() > 0
    np.testing.assert_allclose(power.sum(1), 1, rtol=1e-6)


def test_networks_of_other_kinds_are_not_exported() -> None:
    def built(encoder: EncoderConfig, **backbone: object) -> PrecodingNetwork:
        config = BackboneConfig(width=16, layers=1, heads=2, **backbone)  # type: ignore[arg-type]
        return PrecodingNetwork(NetworkConfig(encoder, config))

    assert is_exportable(built(EncoderConfig(kind="gram")))
    assert is_exportable(built(EncoderConfig(kind="gram"), family="none"))
    assert not is_exportable(built(EncoderConfig(kind="gram"), attention="causal"))
    assert not is_exportable(built(EncoderConfig(kind="cnn")))
    assert not is_exportable(built(EncoderConfig(kind="raw", antennas=8)))


# The shipped graphs


@pytest.mark.parametrize("name", NAMES)
def test_shipped_graphs_are_those_of_the_shipped_weights(name: str, tmp_path: Path) -> None:
    folder = SHIPPED / name
    shutil.copy(folder / WEIGHTS, tmp_path)
    for file, content in export_graphs(load_checkpoint(folder).network, folder / WEIGHTS).items():
        (tmp_path / file).write_bytes(content)
    channels = draw_channels(1, users=7, antennas=100, drops=3, spread_db=10)
    values = arrays(FeatureInputs.of(normalised_gram(channels, LinkBudget())))
    parts = torch.view_as_real(channels.flatten(0, 1)).flatten(1)
    subarrays = torch.nn.functional.pad(parts, (0, 24)).reshape(21, SUBARRAYS, -1).numpy()
    wavefront = {"subarrays": subarrays, "matrix": fourier(subarray_length(100), torch.device("cpu")).numpy()}
    for file, inputs in ((POWERS, values), (WAVEFRONT, wavefront)):
        shipped, fresh = session(folder / file), session(tmp_path / file)
        assert shipped.get_modelmeta().custom_metadata_map[WEIGHTS_HASH] == file_hash(folder / WEIGHTS)
        for first, second in zip(shipped.run(None, inputs), fresh.run(None, inputs), strict=True):
            np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_graph_refers_to_the_weights_instead_of_repeating_them(name: str) -> None:
    folder = SHIPPED / name
    tensors = load_checkpoint(folder).network.backbone.state_dict().values()
    trunk = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    model = onnx.load(folder / POWERS, load_external_data=False)
    referred = [tensor for tensor in model.graph.initializer if tensor.external_data]
    places = [{entry.key: entry.value for entry in tensor.external_data} for tensor in referred]
    assert {place["location"] for place in places} == {WEIGHTS}
    assert sum(int(place["length"]) for place in places) > 0.9 * trunk
    content, found = (folder / WEIGHTS).read_bytes(), onnx.load(folder / POWERS).graph.initializer
    for tensor, place in zip(referred, places, strict=True):
        start = int(place["offset"])
        values = np.frombuffer(content[start : start + int(place["length"])], np.float32).reshape(tensor.dims)
        np.testing.assert_array_equal(values, numpy_helper.to_array(next(e for e in found if e.name == tensor.name)))


def users(seed: int, antennas: int, count: int, noise: float) -> torch.Tensor:
    """Near and far users' wavefronts, with noise, in either convention."""
    generator = torch.Generator().manual_seed(seed)
    drawn = scenario("paper", users=count, antennas=antennas).draw(1, generator).channels
    noisy = drawn + noise / antennas**0.5 * torch.randn(drawn.shape, dtype=torch.complex64, generator=generator)
    return torch.where(torch.arange(count).unsqueeze(-1) % 2 == 0, noisy, noisy.conj())


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    antennas=st.integers(1, 300),
    count=st.integers(1, 8),
    noise=st.floats(0, 2),
    scale=st.sampled_from([1e-12, 1.0, 1e12]),
)
def test_near_field_logits_are_pytorchs(seed: int, antennas: int, count: int, noise: float, scale: float) -> None:
    channels = scale * users(seed, antennas, count, noise)
    with torch.no_grad():
        expected = TINY.network.near_field_logit(channels)
    found = GRAPH.logits(channels.numpy())
    assert found is not None
    assert found.dtype == np.float32
    # Beams of equal energy, of which either may be taken for the best, come with a single antenna or two.
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("antennas", [1, 16, 100, 256, WavefrontGraph.max_antennas])
def test_null_channels_give_numbers(antennas: int) -> None:
    found = WavefrontGraph(SHIPPED / "tiny").logits(np.zeros((2, 3, antennas), np.complex64))
    assert found is not None
    assert np.isfinite(found).all()


def test_threads_may_share_a_graph_and_any_number_of_users_comes_back_in_its_shape() -> None:
    graph = WavefrontGraph(SHIPPED / "tiny")
    channels = users(3, 64, 1000, 0.1).reshape(100, 10, 64).numpy()
    whole = graph.logits(channels)
    assert whole is not None
    assert whole.shape == (100, 10)
    with ThreadPoolExecutor(4) as pool:
        drops = list(pool.map(lambda drop: graph.logits(drop[None]), channels))
    np.testing.assert_allclose(np.concatenate(drops), whole, rtol=0, atol=1e-4)
    none = graph.logits(channels[:0])
    assert none is not None
    assert none.shape == (0, 10)


def test_a_graph_is_compiled_once() -> None:
    graph = PowerGraph(SHIPPED / "tiny")
    with ThreadPoolExecutor(4) as pool:
        runs = {id(run) for run in pool.map(lambda _: graph.load(), range(16))}
    assert runs == {id(graph.load())}


@pytest.mark.parametrize("antennas", [256, WavefrontGraph.max_antennas + 1])
@pytest.mark.parametrize("backend", [None, "torch"])
def test_labels_are_the_same_at_every_call(antennas: int, backend: str | None) -> None:
    """PyTorch computes them at the first call, ONNX Runtime from the second on, up to so many antennas."""
    engine = Engine(load_checkpoint(SHIPPED / "tiny"), backend=backend)
    channels = users(4, antennas, 30, 0.1).reshape(3, 10, antennas)
    first, second = (engine(ChannelBatch(channels), LinkBudget()) for _ in range(2))
    torch.testing.assert_close(first.near_field_score, second.near_field_score, rtol=0, atol=1e-4)
    assert torch.equal(first.near_field, second.near_field)
    assert bool(first.near_field.any())


# Graphs that cannot be used


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED / "tiny", tmp_path / "tiny"))


def assert_pytorch_answers(folder: Path, reason: str) -> None:
    engine, reference = Engine(load_checkpoint(folder)), Engine(load_checkpoint(folder), backend="torch")
    batch, budget = ChannelBatch(draw_channels(2, users=4, antennas=16, drops=2)), LinkBudget()
    expected = reference(batch, budget)
    for _ in range(3):
        answer = engine(batch, budget)
        torch.testing.assert_close(answer.power, expected.power)
        torch.testing.assert_close(answer.near_field_score, expected.near_field_score)
    assert reason in engine.select_backend(batch, budget).reason


def test_numpy_cannot_be_requested_without_graphs(folder: Path) -> None:
    (folder / POWERS).unlink()
    engine = Engine(load_checkpoint(folder), backend="numpy")
    with pytest.raises(NflaeError, match=r"backend numpy cannot compute this batch: .* is missing"):
        engine(ChannelBatch(draw_channels(2, users=4, antennas=16)), LinkBudget())


def test_without_graphs_pytorch_computes(folder: Path) -> None:
    for name in (POWERS, WAVEFRONT):
        (folder / name).unlink()
    assert_pytorch_answers(folder, f"{POWERS} is missing")


def test_graphs_of_other_weights_are_not_used_and_that_is_logged(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = load_checkpoint(folder).network
    with torch.no_grad():
        network.heads["power"].bias.add_(0.5)
    save_checkpoint(folder, network, {})
    for name in (POWERS, WAVEFRONT):
        shutil.copy(SHIPPED / "tiny" / name, folder / name)
    with caplog.at_level(logging.WARNING, "nflae_bridge.engine"):
        assert_pytorch_answers(folder, f"{POWERS} is of other weights than {WEIGHTS}")
    assert sum("powers.onnx is of other weights" in message for message in caplog.messages) == 1


@pytest.mark.parametrize("content", [b"no graph", (SHIPPED / "small" / POWERS).read_bytes()])
def test_damaged_graphs_are_not_used_and_that_is_logged(
    content: bytes, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (POWERS, WAVEFRONT):
        (folder / name).write_bytes(content)
    with caplog.at_level(logging.WARNING, "nflae_bridge.engine"):
        assert_pytorch_answers(folder, "cannot be loaded")
    assert any("PyTorch computes instead" in message for message in caplog.messages)


def test_saving_other_weights_removes_the_graphs_and_exporting_brings_them_back(folder: Path) -> None:
    checkpoint = load_checkpoint(folder)
    with torch.no_grad():
        checkpoint.network.heads["power"].bias.add_(0.5)
    save_checkpoint(folder, checkpoint.network, {"preset": "other"})
    assert not (folder / POWERS).exists()
    assert {path.name for path in export_checkpoint(folder)} == {POWERS, WAVEFRONT}
    batch, budget = ChannelBatch(draw_channels(2, users=4, antennas=16, drops=2)), LinkBudget()
    found, expected = (Engine(load_checkpoint(folder), backend=name)(batch, budget) for name in ("numpy", "torch"))
    torch.testing.assert_close(found.power, expected.power, rtol=1e-4, atol=1e-5)
