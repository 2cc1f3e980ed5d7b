"""Users with several receive antennas, against the singular value decomposition."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matlab_io.reading.receive_antennas import MODES, combine


def rows(seed: int, drops: int = 3, users: int = 2, receive: int = 4, antennas: int = 9) -> npt.NDArray[np.complex128]:
    rng = np.random.default_rng(seed)
    shape = (drops, users, receive, antennas)
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def test_each_antenna_is_a_user_of_its_own() -> None:
    h = rows(0)
    channels, combiner = combine(h, "each")
    assert combiner is None
    assert channels.shape == (3, 8, 9)
    assert np.array_equal(channels[1, 4 + 2], h[1, 1, 2].astype(np.complex64))


@pytest.mark.parametrize("mode", ["strongest", "eigen"])
@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-12, 1.0, 1e12]))
def test_the_combined_signal_is_that_of_the_combined_channel(mode: str, seed: int, scale: float) -> None:
    """z = u^H y with y_r = h_r^H x is h^H x of the reduced channel, for every x."""
    h = scale * rows(seed)
    channels, combiner = combine(h, mode)
    assert combiner is not None
    x = np.random.default_rng(seed + 1).standard_normal(9)
    z = np.einsum("skr,skr->sk", combiner.conj(), h.conj() @ x)
    np.testing.assert_allclose(channels.conj() @ x, z, rtol=1e-4, atol=1e-5 * scale)
    np.testing.assert_allclose(np.linalg.norm(combiner, axis=-1), 1, rtol=1e-6)


@given(seed=st.integers(0, 1000))
def test_eigen_has_the_largest_gain_of_all_combiners(seed: int) -> None:
    h = rows(seed)
    gain = np.linalg.norm(combine(h, "eigen")[0], axis=-1)
    np.testing.assert_allclose(gain, np.linalg.svd(h.conj(), compute_uv=False)[..., 0], rtol=1e-5)


def test_strongest_is_the_row_of_largest_norm() -> None:
    h = rows(3)
    channels, combiner = combine(h, "strongest")
    best = np.linalg.norm(h, axis=-1).argmax(-1)
    for drop, user in np.ndindex(3, 2):
        assert np.array_equal(channels[drop, user], h[drop, user, best[drop, user]].astype(np.complex64))
        assert combiner is not None
        assert np.array_equal(combiner[drop, user], np.eye(4)[best[drop, user]])


@pytest.mark.parametrize("mode", MODES)
def test_what_is_not_finite_stays_so_in_its_user_alone(mode: str) -> None:
    h = rows(1)
    h[1, 1, 2, 3] = np.nan
    channels, _ = combine(h, mode)
    bad = ~np.isfinite(channels).all(-1)
    assert bad.sum() == 1
    assert bad[1].any()
    assert bad[1].argmax() == (6 if mode == "each" else 1)


def test_a_mode_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="each, strongest, eigen"):
        combine(rows(0), "mrc")
