"""The block for Sionna against Sionna's own blocks, and its gradients against finite differences."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from nflae_bridge import precode

try:
    from sionna.phy.mimo import StreamManagement
    from sionna.phy.ofdm import CBFPrecodedChannel, LMMSEPostEqualizationSINR, ResourceGrid, RZFPrecodedChannel

    from nflae_bridge.sionna import PrecodedChannel
except ModuleNotFoundError:
    if os.environ.get("CI"):
        raise
    pytest.skip("sionna-no-rt is not installed (pip install 'nflae-bridge[sionna]')", allow_module_level=True)

SINGLE = 3e-6
ALPHA = 0.2


def link(
    transmitters: int = 1, receivers: int = 4, receive: int = 1, fft: int = 4, symbols: int = 1, **grid: Any
) -> Any:
    """Return grid and streams of transmitters with as many receivers each."""
    association = np.kron(np.eye(transmitters, dtype=int), np.ones((receivers, 1), int))
    streams = receivers * receive
    management = StreamManagement(association, streams)
    return ResourceGrid(symbols, fft, 15e3, num_tx=transmitters, num_streams_per_tx=streams, **grid), management


def channels(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def close(ours: Tensor, theirs: Tensor, tolerance: float = SINGLE) -> bool:
    return bool((ours - theirs).abs().max() <= tolerance * theirs.abs().max())


@pytest.fixture(scope="module")
def cells() -> Any:
    """Two transmitters, two receivers of two antennas each, nulled subcarriers, CSI with errors, unequal powers."""
    pair = link(2, 2, 2, fft=32, symbols=2, num_guard_carriers=(3, 2), dc_null=True)
    h = channels(2, 4, 2, 2, 16, 2, 32)
    powers = torch.rand(2, 2, 4, 2, 32, generator=torch.Generator().manual_seed(2))
    return pair, h, h + 0.1 * channels(*h.shape, seed=3), powers


@pytest.mark.parametrize("alpha", [0.0, ALPHA, torch.tensor([[0.1, 0.3], [1.0, 2.0]])], ids=["zf", "one", "each"])
def test_rzf_is_that_of_sionna(cells: Any, alpha: float | Tensor) -> None:
    pair, h, estimate, powers = cells
    theirs, ours = RZFPrecodedChannel(*pair), PrecodedChannel(*pair, scheme="rzf")
    for csi in (None, estimate):
        expected = theirs(h, powers, csi, alpha)
        assert close(ours(h, powers, csi, alpha), expected)
        assert close(ours(h, powers, h_hat=csi, alpha=alpha), expected)


def test_mrt_and_zf_are_those_of_sionna_without_a_stated_noise(cells: Any) -> None:
    pair, h, estimate, powers = cells
    expected = CBFPrecodedChannel(*pair)(h, powers, estimate)
    assert close(PrecodedChannel(*pair, scheme="mrt")(h, powers, estimate), expected)
    expected = RZFPrecodedChannel(*pair)(h, powers, estimate)
    assert close(PrecodedChannel(*pair, scheme="zf")(h, powers, estimate), expected)


def test_the_noise_power_states_the_regularisation(cells: Any) -> None:
    pair, h, _, powers = cells
    total, no = powers.sum(2), 0.05
    expected = RZFPrecodedChannel(*pair)(h, powers, alpha=4 * no / total)
    assert close(PrecodedChannel(*pair, scheme="rzf")(h, powers, no=no), expected)


def test_powers_of_few_axes_and_double_precision(cells: Any) -> None:
    pair, h, _, powers = cells
    few = powers[:, :, :, 0, 0]
    theirs = RZFPrecodedChannel(*pair, precision="double")
    ours = PrecodedChannel(*pair, "double", scheme="rzf")
    found = ours(h, few, alpha=ALPHA)
    assert found.dtype == torch.complex128
    assert close(found, theirs(h, few, alpha=ALPHA))


def test_the_network_precodes_as_precode_does_and_keeps_the_total_power() -> None:
    pair, h, powers = link(), channels(3, 4, 1, 1, 16, 1, 4), torch.rand(3, 1, 4) + 0.5
    block, no = PrecodedChannel(*pair), 0.3
    found = block(h, powers, no=no)[:, :, 0, 0, :, 0]  # (batch, user, stream, subcarrier)
    for drop in range(3):
        for tone in range(4):
            matrix, total = h[drop, :, 0, 0, :, 0, tone], float(powers[drop].sum())
            expected = precode(matrix.conj().resolve_conj().numpy(), power=total, noise_power=no)
            g = expected.precoder[0].T * np.sqrt(expected.power[0])
            np.testing.assert_allclose(found[drop, :, :, tone], matrix.numpy() @ g, atol=2e-4)
    given = PrecodedChannel(*pair, powers="given")(h, powers, no=no)[:, :, 0, 0, :, 0]
    unit = PrecodedChannel(*pair, powers="given")(h, torch.ones(3, 1, 4), alpha=4 * no / powers.sum(-1))[
        :, :, 0, 0, :, 0
    ]
    assert close(given, unit * powers.sqrt().unsqueeze(-1))


def test_sionna_measures_a_higher_sum_rate_than_with_rzf() -> None:
    pair, h, no = link(), channels(20, 4, 1, 1, 6, 1, 4), 0.5
    sinr = LMMSEPostEqualizationSINR(*pair)
    arguments = (h, torch.full((20, 1, 4), 0.25))

    def rate(block: Any, **noise: float) -> Tensor:
        return torch.log2(1 + sinr(block(*arguments, **noise), torch.tensor(no))).sum((-1, -2)).mean((-1, -2))

    ours, rzf = rate(PrecodedChannel(*pair), no=no), rate(RZFPrecodedChannel(*pair), alpha=4 * no)
    assert (ours >= rzf * (1 - 1e-5)).all()
    assert ours.mean() > 1.02 * rzf.mean()


@pytest.mark.parametrize("size", [1, 2, 100])
def test_one_precoder_per_resource_block_group(size: int) -> None:
    pair = link(fft=40, symbols=3, num_guard_carriers=(2, 1), dc_null=True)
    flat = channels(2, 4, 1, 1, 16, 1, 1)
    delay = torch.exp(-0.4j * torch.arange(4).reshape(4, 1, 1, 1, 1, 1) * torch.arange(40))
    h = flat * delay * torch.exp(0.3j * torch.arange(3)).reshape(3, 1)
    one = torch.ones(2, 1, 4)
    block = PrecodedChannel(*pair, scheme="rzf", prg_size=size)
    # A flat channel with a delay per user has one precoder; up to 1.05 rad a subcarrier turn its phase.
    expected = RZFPrecodedChannel(*pair)(h, one, alpha=ALPHA)
    assert close(block(h, one, alpha=ALPHA).abs(), expected.abs(), 1e-5)
    selective = channels(2, 4, 1, 1, 16, 3, 40)
    effective = np.asarray(pair[0].effective_subcarrier_ind)
    found = block(selective, one, alpha=ALPHA)[:, :, 0, 0]
    matrices = [selective[0, :, 0, 0, :, symbol, tone].numpy() for symbol in range(3) for tone in effective]
    stacked = np.concatenate([found[0, :, :, symbol, index] for symbol in range(3) for index in range(len(effective))])
    groups = [range(start, min(start + 12 * size, len(effective))) for start in range(0, len(effective), 12 * size)]
    for group in groups:
        rows = [symbol * len(effective) + index for symbol in range(3) for index in group]
        system = np.concatenate([matrices[row] for row in rows])
        answer = np.concatenate([stacked[4 * row : 4 * row + 4] for row in rows])
        g, _, rank, _ = np.linalg.lstsq(system, answer, rcond=None)
        assert rank == 16
        assert np.abs(system @ g - answer).max() < 1e-4  # one matrix explains all resource elements of the group
        np.testing.assert_allclose(np.linalg.norm(g, axis=0), 1, atol=1e-4)
    if len(groups) > 1:
        g = np.linalg.lstsq(np.concatenate(matrices), stacked, rcond=None)[0]
        assert np.abs(np.concatenate(matrices) @ g - stacked).max() > 0.1


def sum_rate(effective: Tensor, no: float = 1.0) -> Tensor:
    # Not at the noise that beams are computed for, where they are nearly stationary.
    received = effective[:, :, 0, 0].abs().square().permute(0, 3, 4, 1, 2)
    signal = received.diagonal(dim1=-2, dim2=-1)
    return torch.log2(1 + signal / (received.sum(-1) - signal + no)).sum()


def test_gradients_of_rzf_are_those_of_sionna(cells: Any) -> None:
    pair, *tensors = cells
    gradients = []
    for block in (RZFPrecodedChannel(*pair), PrecodedChannel(*pair, scheme="rzf")):
        given = [
            each.clone().requires_grad_() for each in (tensors[0], tensors[2], tensors[1], torch.full((2, 2), ALPHA))
        ]
        found = block(*given).abs().square()
        weights = torch.linspace(0, 1, found.numel()).reshape(found.shape)
        gradients.append(torch.autograd.grad((found * weights).sum(), given))
    for theirs, ours in zip(*gradients, strict=True):
        assert close(ours, theirs, 2e-5)


@pytest.mark.parametrize("options", [{}, {"refine": 1}, {"prg_size": 1}, {"scheme": "wmmse:iterations=4"}], ids=str)
def test_gradients_are_those_of_finite_differences(options: dict[str, Any]) -> None:
    h, step, direction = channels(3, 4, 1, 1, 16, 1, 4), 3e-3, channels(3, 4, 1, 1, 16, 1, 4, seed=5)
    block = PrecodedChannel(*link(), **options)

    def value(csi: Tensor) -> Tensor:
        return sum_rate(block(h, torch.full((3, 1, 4), 0.25), csi, alpha=0.4))

    csi = h.clone().requires_grad_()
    gradient = torch.autograd.grad(value(csi), csi)[0]
    difference = (value(h + step * direction).double() - value(h - step * direction).double()) / (2 * step)
    along = (gradient.conj() * direction).sum().real
    assert abs(difference - along) < 0.02 * gradient.abs().square().sum().sqrt()


def test_one_graph_under_torch_compile() -> None:
    block, h, one = PrecodedChannel(*link()), channels(2, 4, 1, 1, 16, 1, 4), torch.ones(2, 1, 4)
    compiled = torch.compile(block, fullgraph=True, backend="eager")
    csi = [h.clone().requires_grad_() for _ in range(2)]
    answers = [each(h, one, given, alpha=ALPHA) for each, given in zip((block, compiled), csi, strict=True)]
    assert torch.equal(*answers)
    for answer in answers:
        sum_rate(answer).backward()  # type: ignore[no-untyped-call]
    assert close(csi[1].grad, csi[0].grad)  # type: ignore[arg-type]
    torch.compiler.reset()


def test_the_operator_is_registered_as_pytorch_requires() -> None:
    for scheme in ("nflae", "rzf"):
        drops = channels(3, 4, 8).requires_grad_()
        checks = ("test_schema", "test_autograd_registration", "test_faketensor")
        torch.library.opcheck(torch.ops.nflae_bridge.precode.default, (drops, scheme, "auto", 0), test_utils=checks)


def test_weights_and_buffers_are_those_of_sionna() -> None:
    pair = link()
    assert PrecodedChannel(*pair).state_dict().keys() == RZFPrecodedChannel(*pair).state_dict().keys()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scheme": "dirty"}, "unknown scheme 'dirty': there are nflae"),
        ({"scheme": "noma"}, "scheme='noma' needs receivers with SIC"),
        ({"scheme": "rzf", "refine": 2}, "for scheme='nflae' only"),
        ({"powers": "equal"}, "powers must be 'scheme' or 'given', got 'equal'"),
        ({"prg_size": 0}, "prg_size must be a number of resource blocks of at least 1"),
    ],
)
def test_arguments_that_do_not_fit(options: dict[str, Any], words: str) -> None:
    with pytest.raises(NflaeError, match=words):
        PrecodedChannel(*link(), **options)


def test_powers_and_shapes_that_do_not_fit() -> None:
    block, h, one = PrecodedChannel(*link()), channels(2, 4, 1, 1, 16, 1, 4), torch.ones(2, 1, 4)
    for value in (-0.1, torch.nan):
        broken = one.clone()
        broken[1, 0, 2] = value
        for given in (block, PrecodedChannel(*link(), powers="given"), PrecodedChannel(*link(), scheme="mrt")):
            with pytest.raises(NflaeError, match="tx_power, alpha or no is NaN, infinite or negative"):
                given(h, broken, alpha=ALPHA)
    for powers in (one[:, :, :3], one[:1].repeat(3, 1, 1), torch.ones(2, 1, 4, 1, 4, 1)):
        with pytest.raises(NflaeError, match=r"tx_power must be \(batch, .*\) = \(2, 1, 4, 1, 4\), or .*, got \("):
            block(h, powers, alpha=ALPHA)
    for name in ("alpha", "no"):
        with pytest.raises(NflaeError, match=rf"{name} must be \(batch, .*\) = \(2, 1, 1, 4\), or .*, got \(3,\)"):
            block(h, one, **{name: torch.ones(3)})
    with pytest.raises(NflaeError, match=r"h_hat must be of the shape of h, \(2, 4, .*, got \(1, 4"):
        block(h, one, h[:1], alpha=ALPHA)
    assert close(block(h, one[:1], alpha=ALPHA), block(h, one, alpha=torch.full((1,), ALPHA)))


def test_a_noise_that_is_not_stated_and_csi_that_is_not_finite() -> None:
    block, h, one = PrecodedChannel(*link()), channels(2, 4, 1, 1, 16, 1, 4), torch.ones(2, 1, 4)
    with pytest.raises(NflaeError, match=r"scheme 'nflae' depends on the noise: pass no=sigma\^2, or alpha="):
        block(h, one)
    broken = h.clone()
    broken[1, 2, 0, 0, 3] = torch.nan
    with pytest.raises(NflaeError, match=r"h_hat [(]else h[)], tx_power, alpha or no is NaN, infinite or negative"):
        block(h, one, broken, alpha=ALPHA)
    for stated in ({"alpha": -ALPHA}, {"no": -0.1}, {"no": torch.tensor([0.1, -0.1])}):
        with pytest.raises(NflaeError, match="is NaN, infinite or negative"):
            block(h, one, **stated)
    for doubly in (0.3, torch.tensor(0.0)):
        with pytest.raises(NflaeError, match="alpha and no both state the noise: leave one out"):
            block(h, one, alpha=doubly, no=0.1)
    for name, given in (("h", (h.real, one)), ("h_hat", (h, one, h.real))):
        with pytest.raises(NflaeError, match=rf"^{name} must be complex, got torch.float32"):
            block(*given, alpha=ALPHA)
    for malformed in (h[0], h[:, :3], h.expand(-1, -1, 2, -1, -1, -1, -1), h[..., :3]):
        with pytest.raises(NflaeError, match=r"h must be \(batch, 4 receivers, 1 receive antennas, .*, got \("):
            block(malformed, one, alpha=ALPHA)
    with pytest.raises(TypeError, match="resource_grid"):
        PrecodedChannel("grid", link()[1])
