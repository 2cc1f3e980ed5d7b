"""Answers of `nflae precode` for random arrays, layouts and conventions, against rates recomputed from the raw array.

The recomputation takes the array as it was saved and y = H x or y = H' x, and no code of the package. An answer that is
refused is no fault; one that is given and differs is. NFLAE_EXAMPLES sets the number of arrays.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.channel_files import Run

NOISE = 0.01
KINDS = ("v4", "v6", "v7", "v7.3", "h5py", "npy", "npz", "raw")
EXAMPLES = int(os.environ.get("NFLAE_EXAMPLES", "100"))


def matrices(array: npt.NDArray[Any], axes: str, convention: str) -> tuple[npt.NDArray[np.complex128], tuple[int, ...]]:
    """H of y = H x per drop, (*drop axes, users, receive antennas, antennas), the first antenna axis fastest."""
    if "c" in axes:
        at = axes.index("c")
        array, axes = array.take(0, at) + 1j * array.take(1, at), axes.replace("c", "")
    places = {letter: [at for at, axis in enumerate(axes) if axis in letter] for letter in ("sf", "k", "r", "n", "1")}
    moved = array.transpose(places["1"] + places["sf"] + places["k"] + places["r"] + places["n"][::-1])
    moved = moved.reshape(moved.shape[len(places["1"]) :])
    drops = moved.shape[: len(places["sf"])]
    users, receive = (array.shape[places[letter][0]] if places[letter] else 1 for letter in "kr")
    rows = moved.reshape(*drops, users, receive, -1).astype(np.complex128)
    return (rows.conj() if convention == "hermitian" else rows), drops


def rates(rows: npt.NDArray[Any], result: dict[str, npt.NDArray[Any]], receive: str) -> npt.NDArray[np.float64]:
    """Rates per user and drop of the returned precoders and powers, (*drop axes, users)."""
    if receive == "each":
        rows = rows.reshape(*rows.shape[:-3], 1, -1, rows.shape[-1]).swapaxes(-2, -3)
    sent = result["precoder"] * np.sqrt(result["power"])[..., None]  # (*drops, users, antennas)
    arrived = np.einsum("...krn,...jn->...krj", rows, sent)
    combiner = result.get("receive_combiner")
    weights = np.ones(arrived.shape[:-1]) if combiner is None else combiner.conj()
    arrived = np.einsum("...kr,...krj->...kj", weights, arrived)
    power = np.abs(arrived) ** 2
    signal = np.einsum("...kk->...k", power)
    return np.log2(1 + signal / (power.sum(-1) - signal + NOISE))


def save(path: Path, kind: str, array: npt.NDArray[Any]) -> Path:
    """Save an array whose axes are in the order given, as each tool does."""
    if kind in ("v4", "v6", "v7"):
        file = path / "in.mat"
        scipy.io.savemat(file, {"H": array}, format="4" if kind == "v4" else "5", do_compression=kind == "v7")
        return file
    if kind == "v7.3":
        stored = array.T
        if np.iscomplexobj(array):
            parts = np.empty(stored.shape, [("real", "f8"), ("imag", "f8")])
            parts["real"], parts["imag"] = stored.real, stored.imag
            stored = parts
        with h5py.File(path / "in.mat", "w", userblock_size=512) as file:
            file.create_dataset("H", data=stored).attrs["MATLAB_class"] = np.bytes_("double")
        return path / "in.mat"
    if kind == "h5py":
        with h5py.File(path / "in.h5", "w") as file:
            file["H"] = array
        return path / "in.h5"
    if kind == "raw":
        array.astype(np.complex64).ravel(order="F").tofile(path / "in.raw")
        return path / "in.raw"
    if kind == "npy":
        np.save(path / "in.npy", array)
        return path / "in.npy"
    np.savez(path / "in.npz", H=array)
    return path / "in.npz"


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, str, npt.NDArray[Any], str | None, str]:
    letters = draw(
        st.sampled_from(["nk", "nks", "nkf", "nkr", "nrs", "ns", "n", "nksf", "nkrs", "nnk", "nnks", "nkss", "nkrsf"])
    )
    letters += "1" * draw(st.integers(0, 1)) + "c" * draw(st.sampled_from([0, 0, 0, 1]))
    axes = "".join(draw(st.permutations(letters)))
    sizes = {"1": st.just(1), "c": st.just(2), "n": st.integers(1, 6)}
    shape = tuple(draw(sizes.get(letter, st.integers(1, 3))) for letter in axes)
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    array = rng.standard_normal(shape)
    if "c" not in axes:
        array = array + 1j * rng.standard_normal(shape)
    kind = draw(st.sampled_from(KINDS))
    return (
        kind,
        axes,
        array,
        draw(st.sampled_from(["hermitian", "direct", None])),
        draw(st.sampled_from(["each", "strongest", "eigen"])),
    )


def answer(output: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a .npz result, which has its axes as numpy: drops first."""
    with np.load(output) as arrays:
        return {name: arrays[name] for name in ("precoder", "power", "rate", "receive_combiner") if name in arrays}


@given(case=cases())
@settings(
    deadline=None,
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_an_answer_is_true_or_refused(nflae: Run, tmp_path: Path, case: tuple[Any, ...]) -> None:
    kind, axes, array, convention, receive = case
    if (kind == "v4" and array.ndim > 2) or (kind == "raw" and "c" in axes) or array.ndim == 1:
        return
    source = save(tmp_path, kind, array)
    options = ["--layout", axes, "--noise-dbw", "-20", "--scheme", "rzf"]
    options += ["--convention", convention] if convention else []
    options += ["--receive-antennas", receive] if "r" in axes else []
    options += ["--shape", "x".join(map(str, array.shape))] if kind == "raw" else []
    done = nflae("precode", source, "-o", tmp_path / "out.npz", *options)
    if done.exit_code:
        assert "--convention" in done.output, done.output
        assert kind in ("h5py", "npy", "npz")
        assert convention is None
        return
    said = re.search(r"read as y = H'? x \((hermitian|direct)", done.output)
    assert said is not None
    assert convention in (None, said.group(1))
    result = answer(tmp_path / "out.npz")
    rows, drops = matrices(array, axes, said.group(1))
    row_major = kind in ("h5py", "npy", "npz")
    if not row_major:  # axes of a .npz are those of MATLAB in reverse
        order = [*range(len(drops))[::-1], *range(len(drops), rows.ndim)]
        rows = rows.transpose(order)
    if row_major and axes.count("n") > 1:  # the last axis runs fastest
        rows, _ = matrices(array.transpose(_reversed_antennas(axes)), axes, said.group(1))
    shape = result["precoder"].shape
    result["precoder"] = result["precoder"].reshape(*shape[: len(drops)], shape[len(drops)], -1)
    np.testing.assert_allclose(
        result["rate"], rates(rows, result, receive if "r" in axes else ""), rtol=2e-3, atol=1e-3
    )


def _reversed_antennas(axes: str) -> list[int]:
    places = [at for at, letter in enumerate(axes) if letter == "n"]
    swap = dict(zip(places, places[::-1], strict=True))
    return [swap.get(at, at) for at in range(len(axes))]
