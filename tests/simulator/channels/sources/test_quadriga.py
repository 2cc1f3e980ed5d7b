"""QuaDRiGa: files of QuaDRiGa 2.8.1 and of quadriga-lib against their own responses, and files laid out like theirs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5storage
import numpy as np
import numpy.typing as npt
import pytest
import scipy.io

from matlab_io.errors import NflaeError
from simulator.channels.sources import Request, channels, draw
from tests.octave_session import run_octave

Array = npt.NDArray[Any]
FOLDER = Path(__file__).parent / "recorded"
RECORDED = FOLDER / "quadriga_lib_paths.npz"
QUADRIGA_BAND = {"subcarriers": 4, "bandwidth": 100e6}  # of the responses in quadriga_record.m
BAND = {"subcarriers": 3, "bandwidth": 30e6}
OFFSETS = np.array([-10e6, 0.0, 10e6])


def made_up(users: int = 2, antennas: int = 6, paths: int = 4, snapshots: int = 5) -> tuple[Array, Array]:
    """Coefficients and delays of users with one antenna, (users, 1, antennas, paths, snapshots)."""
    rng = np.random.default_rng(3)
    shape = (users, 1, antennas, paths, snapshots)
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape), rng.uniform(0, 1e-6, shape)


def expected(coeff: Array, delay: Array, offsets: Array = OFFSETS) -> Array:
    """The definition, written out: drops (snapshots x subcarriers, the latter fastest), users, antennas."""
    users, _, antennas, paths, snapshots = coeff.shape
    h = np.zeros((snapshots, len(offsets), users, antennas), complex)
    for snapshot, frequency, user, antenna, path in np.ndindex(snapshots, len(offsets), users, antennas, paths):
        at = (user, 0, antenna, path, snapshot)
        h[snapshot, frequency, user, antenna] += coeff[at] * np.exp(-2j * np.pi * offsets[frequency] * delay[at])
    return h.conj().reshape(-1, users, antennas)


def as_struct_array(coeff: Array, delay: Array) -> dict[str, Any]:
    chan = np.empty((1, len(coeff)), [("name", object), ("coeff", object), ("delay", object)])
    for user in range(len(coeff)):
        chan[0, user] = (f"rx{user}", coeff[user], delay[user])
    return {"chan": chan}


def as_cell_of_structs(coeff: Array, delay: Array) -> dict[str, Any]:
    cells = np.empty((len(coeff), 1), object)
    for user in range(len(coeff)):
        cells[user, 0] = {"coeff": coeff[user], "delay": delay[user], "center_frequency": 28e9}
    return {"c": cells}


def as_cells(coeff: Array, delay: Array) -> dict[str, Any]:
    cells = [np.empty((1, len(coeff)), object) for _ in range(2)]
    for user in range(len(coeff)):
        cells[0][0, user], cells[1][0, user] = coeff[user], delay[user]
    return {"coeff": cells[0], "delay": cells[1]}


def as_mat_save(coeff: Array, delay: Array) -> dict[str, Any]:
    """What qd_channel.mat_save writes: numbered variables, single precision."""
    content: dict[str, Any] = {"ChannelDims": np.array([[len(coeff), 1, 1, 1]], np.int64)}
    for user in range(len(coeff)):
        name = f"channel_{user + 1:05}_"
        content |= {
            f"{name}Name": f"Tx1_Rx{user}",
            f"{name}CenterFrequency": np.float32(28e9),
            f"{name}Coeffs": coeff[user].astype(np.complex64),
            f"{name}Initial_position": np.uint32(1),
            f"{name}Delays": delay[user].astype(np.float32),
            f"{name}IndividualDelays": np.bool_(True),
        }
    return content


def save_as_numpy(path: Path, arrays: dict[str, Array]) -> Path:
    """Row-major, as numpy and h5py write arrays: axes in the order in which QuaDRiGa has them."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    return path


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize("snapshots", [1, 5])
def test_files_of_python(tmp_path: Path, suffix: str, snapshots: int) -> None:
    coeff, delay = made_up(users=1, snapshots=snapshots)
    path = save_as_numpy(tmp_path / f"chan{suffix}", {"coeff": coeff[0], "delay": delay[0]})
    np.testing.assert_allclose(channels("quadriga", file=path, **BAND), expected(coeff, delay), atol=1e-5)


LAYOUTS = [as_struct_array, as_cell_of_structs, as_cells, as_mat_save]


@pytest.mark.parametrize("lay_out", LAYOUTS)
@pytest.mark.parametrize("version", ["7", "7.3"])
def test_every_layout(tmp_path: Path, lay_out: Callable[[Array, Array], dict[str, Any]], version: str) -> None:
    coeff, delay = made_up()
    path = tmp_path / "chan.mat"
    if version == "7":
        scipy.io.savemat(path, lay_out(coeff, delay), do_compression=True)
    else:
        hdf5storage.savemat(str(path), lay_out(coeff, delay), format="7.3")
    found = channels("quadriga", file=path, **BAND)
    assert found.shape == (15, 2, 6)
    assert found.dtype == np.complex64
    np.testing.assert_allclose(found, expected(coeff, delay), atol=3e-5)
    np.testing.assert_allclose(channels("quadriga", file=path), expected(coeff, delay, np.zeros(1)), atol=1e-5)


def own_responses(file: str = "quadriga_fr.mat") -> list[Array]:
    """Return qd_channel.fr of each user, [Rx, Tx, carrier, snapshot], as QuaDRiGa computed it."""
    loaded = scipy.io.loadmat(FOLDER / file)["fr"]
    return list(loaded[0]) if loaded.dtype == object else [loaded]


def as_drops(responses: list[Array]) -> Array:
    """h of y = h^H x: drops (snapshots x carriers, the latter fastest), users (each receive antenna), antennas."""
    rows = np.concatenate(responses)
    return rows.conj().transpose(3, 2, 0, 1).reshape(-1, len(rows), rows.shape[1])


@pytest.mark.parametrize(
    ("file", "users", "tolerance"),
    [
        ("quadriga_mat_save.mat", slice(1), 1e-4),  # mat_save stores delays in single precision
        ("quadriga_users.mat", slice(2), 1e-6),
    ],
)
def test_files_of_quadriga_give_its_own_responses(file: str, users: slice, tolerance: float) -> None:
    drawn = draw("quadriga", Request(file=FOLDER / file, **QUADRIGA_BAND))
    theirs = as_drops(own_responses()[users])
    assert theirs.shape == (12, len(own_responses()[users]), 4)
    np.testing.assert_allclose(
        np.concatenate(list(drawn.blocks)), theirs, atol=tolerance * np.abs(theirs).max(), rtol=0
    )
    assert drawn.metadata["carrier_hz"] == pytest.approx(7e9)


def test_delays_that_quadriga_averaged_over_antennas() -> None:
    """individual_delays = 0: delay is [path, snapshot]."""
    found = channels("quadriga", file=FOLDER / "quadriga_shared_delays.mat", **QUADRIGA_BAND)
    theirs = as_drops(own_responses("quadriga_shared_delays.mat"))
    np.testing.assert_allclose(found, theirs, atol=1e-6 * np.abs(theirs).max(), rtol=0)


def test_responses_that_quadriga_computed() -> None:
    np.testing.assert_allclose(
        channels("quadriga", file=FOLDER / "quadriga_fr.mat"), as_drops(own_responses()), rtol=1e-6
    )


def test_quadriga_libs_own_paths(tmp_path: Path) -> None:
    """Coefficients, delays and responses by quadriga-lib 0.12.2, three users before eight antennas.

    Its carriers lie at -0.4, -0.2, 0, 0.2 and 0.4 of 100 MHz, as five of our subcarriers do.
    """
    with np.load(RECORDED) as recorded:
        content = {name: recorded[name] for name in recorded.files}
    scipy.io.savemat(tmp_path / "chan.mat", as_struct_array(content["coeff"], content["delay"]))
    found = channels("quadriga", file=tmp_path / "chan.mat", subcarriers=5, bandwidth=100e6)
    theirs = content["response"][:, 0].transpose(2, 0, 1).conj()  # carriers, users, antennas
    np.testing.assert_allclose(found, theirs, atol=1e-5 * np.abs(theirs).max())


def test_direct_ray_of_quadriga_lib_is_met_by_the_matched_beam(tmp_path: Path) -> None:
    """Weights exp(+j 2 pi d_n / lambda) undo the delays d_n / c to a user 5 m away: y = h^H w adds up."""
    with np.load(RECORDED) as recorded:
        content = {name: recorded[name] for name in recorded.files}
    direct = content["coeff"][..., :1]
    scipy.io.savemat(tmp_path / "chan.mat", as_struct_array(direct, content["delay"][..., :1]))
    found = channels("quadriga", file=tmp_path / "chan.mat")[0]
    elements = np.stack([0 * content["offsets"], content["offsets"], 0 * content["offsets"]], -1)
    for h, user in zip(found, content["users"], strict=True):
        distance = np.linalg.norm(user - elements, axis=-1)
        weights = np.exp(2j * np.pi * distance * content["carrier"] / 299_792_458.0) / np.sqrt(8)
        assert abs(np.vdot(h, weights)) == pytest.approx(np.linalg.norm(h), rel=1e-5)


def test_shared_delays_and_a_single_user(tmp_path: Path) -> None:
    """individual_delays = 0: delay is [path, snapshot]. Plain variables: one user."""
    coeff, _ = made_up(users=1)
    delay = np.random.default_rng(4).uniform(0, 1e-6, (4, 5))
    scipy.io.savemat(tmp_path / "chan.mat", {"coeff": coeff[0], "delay": delay})
    whole = np.broadcast_to(delay, coeff.shape)
    np.testing.assert_allclose(
        channels("quadriga", file=tmp_path / "chan.mat", **BAND), expected(coeff, whole), atol=1e-5
    )


def test_one_path_and_one_snapshot(tmp_path: Path) -> None:
    """MATLAB drops trailing axes of length one: coeff is 1 x antennas."""
    coeff, delay = made_up(paths=1, snapshots=1)
    scipy.io.savemat(tmp_path / "chan.mat", as_struct_array(coeff[..., 0, 0], delay[..., 0, 0]))
    np.testing.assert_allclose(
        channels("quadriga", file=tmp_path / "chan.mat", **BAND), expected(coeff, delay), atol=1e-5
    )


@pytest.mark.octave
def test_struct_array_written_by_octave(tmp_path: Path) -> None:
    coeff, delay = made_up()
    scipy.io.savemat(tmp_path / "in.mat", {"a": coeff.transpose(1, 2, 3, 4, 0), "t": delay.transpose(1, 2, 3, 4, 0)})
    run_octave(
        "load in.mat; for k = 1:2, chan(k).coeff = a(:, :, :, :, k); chan(k).delay = t(:, :, :, :, k);"
        " chan(k).par.sf = 1; end, save -v7 chan.mat chan",
        tmp_path,
    )
    found = channels("quadriga", file=tmp_path / "chan.mat", **BAND)
    np.testing.assert_allclose(found, expected(coeff, delay), atol=1e-5)


def test_frequency_responses(tmp_path: Path) -> None:
    """[Rx, Tx, carrier, snapshot] each, as chan.fr gives it."""
    coeff, delay = made_up()
    h = expected(coeff, delay)
    response = h.conj().reshape(5, 3, 2, 6).transpose(2, 3, 1, 0)  # users, antennas, carriers, snapshots
    content = {"fr": np.empty((1, 2), object)}
    for user in range(2):
        content["fr"][0, user] = response[user][None]
    scipy.io.savemat(tmp_path / "fr.mat", content)
    np.testing.assert_allclose(channels("quadriga", file=tmp_path / "fr.mat"), h, atol=1e-6)
    with pytest.raises(NflaeError, match="whose carriers are fixed"):
        channels("quadriga", file=tmp_path / "fr.mat", **BAND)


def receive_antennas_of_quadriga(tmp_path: Path, form: str) -> tuple[Path, dict[str, Any]]:
    """A user with two receive antennas as QuaDRiGa made it: paths, or a plain fr or H."""
    content = scipy.io.loadmat(FOLDER / "quadriga_two_receive.mat")
    assert content["fr"].shape == (2, 4, 4, 3)
    if form == "paths":
        return FOLDER / "quadriga_two_receive.mat", QUADRIGA_BAND
    scipy.io.savemat(tmp_path / "fr.mat", {form: content["fr"]})
    return tmp_path / "fr.mat", {}


@pytest.mark.parametrize("form", ["paths", "fr", "H"])
def test_first_axis_counts_receive_antennas(tmp_path: Path, form: str) -> None:
    path, band = receive_antennas_of_quadriga(tmp_path, form)
    theirs = as_drops(own_responses("quadriga_two_receive.mat"))  # (12, 2, 4)
    with pytest.raises(NflaeError, match="users have 2 receive antennas; add --receive-antennas each"):
        channels("quadriga", file=path, **band)
    each = channels("quadriga", file=path, receive_antennas="each", **band)
    np.testing.assert_allclose(each, theirs, atol=1e-6 * np.abs(theirs).max(), rtol=0)
    strongest = channels("quadriga", file=path, receive_antennas="strongest", **band)
    best = np.linalg.norm(theirs, axis=-1).argmax(1)
    np.testing.assert_allclose(strongest[:, 0], theirs[np.arange(12), best], atol=1e-6 * np.abs(theirs).max())


@pytest.mark.parametrize("form", ["paths", "fr"])
def test_receive_antennas_combined_by_the_dominant_singular_vector(tmp_path: Path, form: str) -> None:
    """With H = U S V' of the responses, u' H = s v'; the combiner is reported, R x K x S."""
    path, band = receive_antennas_of_quadriga(tmp_path, form)
    drawn = draw("quadriga", Request(file=path, receive_antennas="eigen", **band))
    combined = np.concatenate(list(drawn.blocks))
    assert (drawn.drops, drawn.users, combined.shape) == (12, 1, (12, 1, 4))
    combiner = drawn.metadata["receive_combiner"]
    assert combiner.shape == (2, 1, 12)
    for drop, H in enumerate(as_drops(own_responses("quadriga_two_receive.mat")).conj()):
        gain = np.linalg.svd(H, compute_uv=False)[0]
        u = combiner[:, 0, drop]
        assert np.linalg.norm(u) == pytest.approx(1, rel=1e-6)
        assert np.linalg.norm(combined[drop, 0]) == pytest.approx(gain, rel=1e-4)
        np.testing.assert_allclose(combined[drop, 0].conj(), u.conj() @ H, atol=1e-4 * gain)


def test_combiners_of_users_drawn_at_random(tmp_path: Path) -> None:
    """Each drop's combiners are those of its users; a user out of coverage is in no drop."""
    rng = np.random.default_rng(5)
    response = rng.standard_normal((4, 2, 6, 1, 3)) + 1j * rng.standard_normal((4, 2, 6, 1, 3))
    response[0] = 0
    cells = np.empty((1, 4), object)
    for user in range(4):
        cells[0, user] = response[user]
    scipy.io.savemat(tmp_path / "fr.mat", {"fr": cells})
    drawn = draw("quadriga", Request(20, 2, file=tmp_path / "fr.mat", receive_antennas="eigen"))
    combiner = drawn.metadata["receive_combiner"]
    for drop, h in enumerate(np.concatenate(list(drawn.blocks))):
        for user in range(2):
            candidates = np.einsum("r,krns->ksn", combiner[:, user, drop].conj(), response[:, :, :, 0])
            assert np.abs(candidates - h[user].conj()).max(-1).min() < 1e-5


def test_grid_of_users_and_base_stations(tmp_path: Path) -> None:
    """qd_layout.get_channels gives users x base stations; MATLAB's order runs down the columns."""
    coeff, delay = made_up(users=6)
    chan = as_struct_array(coeff, delay)["chan"].reshape(3, 2, order="F")
    scipy.io.savemat(tmp_path / "chan.mat", {"chan": chan})
    found = channels("quadriga", file=tmp_path / "chan.mat", base_station=2)
    np.testing.assert_allclose(found, expected(coeff[3:], delay[3:], np.zeros(1)), atol=1e-5)
    saved = as_mat_save(coeff, delay) | {"ChannelDims": np.array([[3, 2, 1, 1]], np.int64)}
    scipy.io.savemat(tmp_path / "saved.mat", saved)
    np.testing.assert_allclose(channels("quadriga", file=tmp_path / "saved.mat", base_station=2), found, atol=1e-5)
    with pytest.raises(NflaeError, match="2 base stations; add --base-station with a number from 1 to 2"):
        channels("quadriga", file=tmp_path / "chan.mat")


def test_fewer_users_are_drawn(tmp_path: Path) -> None:
    coeff, delay = made_up(users=5)
    scipy.io.savemat(tmp_path / "chan.mat", as_mat_save(coeff, delay))
    drawn = draw("quadriga", Request(file=tmp_path / "chan.mat", users=2, drops=30, seed=1))
    assert (drawn.drops, drawn.users, drawn.antennas) == (30, 2, 6)
    assert drawn.metadata["carrier_hz"] == pytest.approx(28e9)
    every = expected(coeff, delay, np.zeros(1))
    for drop in np.concatenate(list(drawn.blocks)):
        at = np.abs(every[:, :, None] - drop).max(-1)  # snapshots, users, the drop's users
        snapshot = at.sum((1, 2)).argmin()
        assert (at.min(1) < 1e-5).all(-1).any()
        assert np.isfinite(at[snapshot]).all()


def test_first_snapshots(tmp_path: Path) -> None:
    coeff, delay = made_up()
    scipy.io.savemat(tmp_path / "chan.mat", as_struct_array(coeff, delay))
    found = channels("quadriga", file=tmp_path / "chan.mat", drops=2)
    np.testing.assert_allclose(found, expected(coeff, delay, np.zeros(1))[:2], atol=1e-5)
    with pytest.raises(NflaeError, match="holds 5 snapshots of its 2 users, and 9 drops were requested"):
        channels("quadriga", file=tmp_path / "chan.mat", drops=9)


def without_delay() -> dict[str, Any]:
    coeff, _ = made_up(users=1)
    return {"coeff": coeff[0]}


def unequal() -> dict[str, Any]:
    coeff, delay = made_up()
    content = as_cells(coeff, delay)
    content["coeff"][0, 1], content["delay"][0, 1] = coeff[1][..., :3], delay[1][..., :3]
    return content


def two_receive_antennas() -> dict[str, Any]:
    coeff, delay = made_up(users=1)
    return {"coeff": np.repeat(coeff[0], 2, axis=0), "delay": np.repeat(delay[0], 2, axis=0)}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"x": np.ones((3, 3))}, r"no field coeff .*; it holds x \(3 x 3 double\)"),
        (without_delay(), "has no delay beside it"),
        ({**without_delay(), "delay": np.ones((3, 2))}, r"is 1 x 6 x 4 x 5 .* its delay 3 x 2; expected .* or 4 x 5"),
        (two_receive_antennas(), "users have 2 receive antennas; add --receive-antennas each .*strongest, or eigen"),
        (unequal(), r"\{2\} has \(receive antennas, antennas, snapshots\) \(1, 6, 3\) and \{1\} \(1, 6, 5\)"),
    ],
)
def test_what_a_file_lacks(tmp_path: Path, content: dict[str, Any], told: str) -> None:
    scipy.io.savemat(tmp_path / "chan.mat", content)
    with pytest.raises(NflaeError, match=told) as raised:
        channels("quadriga", file=tmp_path / "chan.mat", **BAND)
    assert str(raised.value).startswith(str(tmp_path / "chan.mat"))
    assert "\n" not in str(raised.value)


def test_object_that_only_matlab_opens(tmp_path: Path) -> None:
    """As -v7.3 stores an object: numbers that point into #subsystem#, and its class."""
    with h5py.File(tmp_path / "chan.mat", "w", userblock_size=512) as file:
        file["chan"] = np.array([[3707764736, 2, 1, 1, 1, 1]], np.uint32)
        file["chan"].attrs["MATLAB_class"] = np.bytes_("qd_channel")
    with (tmp_path / "chan.mat").open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    with pytest.raises(NflaeError, match=r"chan is a qd_channel object, .* chan\.mat_save\('chan\.mat'\)"):
        channels("quadriga", file=tmp_path / "chan.mat")


def test_delays_are_not_needed_at_the_carrier(tmp_path: Path) -> None:
    coeff, delay = made_up(users=1)
    scipy.io.savemat(tmp_path / "chan.mat", without_delay())
    found = channels("quadriga", file=tmp_path / "chan.mat")
    np.testing.assert_allclose(found, expected(coeff, delay, np.zeros(1)), atol=1e-5)
