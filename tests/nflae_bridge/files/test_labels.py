"""Labels of a file: from a variable in every layout and container, or the network's for every scheme."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from matlab_io import open_channels
from matlab_io.errors import NflaeError
from nflae_bridge import precode
from nflae_bridge.cli.commands.channels.precode import _fallback_meaning
from nflae_bridge.engine.schemes import load_network
from nflae_bridge.files.labels import LabelSource, precode_labelled, read_labels
from simulator.channels.scenario import scenario
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch
from simulator.geometry.near_field import far_field_test
from simulator.schemes import scheme
from tests.channel_files import Run, WriteMat, load, random_channels

K, S, N = 3, 6, 16


def random_labels(users: int = K, drops: int = S) -> np.ndarray:
    """Labels K x S of which no two users and no two drops have the same."""
    codes = np.arange(1, drops + 1)
    return ((codes[None, :] >> np.arange(users)[:, None]) & 1).astype(bool)


def half_scattered(users: int = 4, drops: int = 10, antennas: int = 128) -> np.ndarray:
    """Line-of-sight channels, (drops, users, antennas); the antennas of the last two users fade independently."""
    channels = scenario("paper", users, antennas).draw(drops, torch.Generator().manual_seed(1)).channels.numpy()
    channels[:, -2:] = random_channels(drops, 2, antennas, seed=1)
    return channels


@pytest.mark.parametrize("kind", [bool, float, np.uint8])
@pytest.mark.parametrize(
    ("layout", "axes", "label_axes"),
    [("nks", (2, 1, 0), (0, 1)), ("skn", (0, 1, 2), (1, 0)), ("ksn", (1, 0, 2), (0, 1)), ("skn", (0, 1, 2), (0, 1))],
)
def test_axes_are_those_of_the_channels_or_users_by_drops(
    write_mat: WriteMat, kind: Any, layout: str, axes: tuple[int, ...], label_axes: tuple[int, ...]
) -> None:
    labels = random_labels()
    stored = labels.transpose(label_axes).astype(kind)
    path = write_mat(h=random_channels(S, K, N).transpose(axes), near_field=stored)
    with open_channels(path, layout=layout) as file:
        found, origin = read_labels(file, None)
    assert found is not None
    np.testing.assert_array_equal(found, labels.T)
    assert origin == f"near_field in {path.name}, {' x '.join(map(str, stored.shape))}"


@pytest.mark.parametrize("layout", ["nkfs", "nksf", "fnks", "fkns"])
@pytest.mark.parametrize("how", ["own axes", "users first", "all drops"])
def test_several_drop_axes(write_mat: WriteMat, layout: str, how: str) -> None:
    sizes = {"n": N, "k": K, "f": 2, "s": 3}
    drops = [letter for letter in layout if letter in "fs"]
    labels = random_labels()  # K x 6, drops in MATLAB's linear order of their axes
    apart = labels.reshape((K, *(sizes[letter] for letter in drops)), order="F")
    own = [letter for letter in layout if letter != "n"]
    order = [["k", *drops].index(letter) for letter in own]
    stored = {"own axes": apart.transpose(order), "users first": apart, "all drops": labels}[how]
    H = random_channels(1, 1, N * K * 6).reshape([sizes[letter] for letter in layout])
    with open_channels(write_mat(h=H, near_field=stored), layout=layout) as file:
        found, _ = read_labels(file, None)
    np.testing.assert_array_equal(found, labels.T)


def test_a_numpy_file_has_its_axes_the_other_way_round(tmp_path: Path) -> None:
    labels = random_labels()
    path = tmp_path / "in.npz"
    np.savez(path, H=random_channels(S, K, N), near_field=labels.T)
    with open_channels(path, layout="skn", convention="hermitian") as file:
        found, _ = read_labels(file, None)
    np.testing.assert_array_equal(found, labels.T)


@pytest.mark.parametrize("version", ["7", "7.3"])
def test_the_labels_of_the_simulator(nflae: Run, tmp_path: Path, version: str) -> None:
    path = tmp_path / "in.mat"
    size = ("--drops", 4, "--users", 5, "--antennas", 64, "--mat-version", version)
    assert nflae("simulate", "-o", path, *size).exit_code == 0
    truth = scenario("uav", 5, 64)
    with open_channels(path, layout="nks") as file:
        found, origin = read_labels(file, None)
        assert read_labels(file, "none") == (None, "")
    assert origin == "near_field in in.mat, 5 x 4"
    assert found is not None
    assert (found.shape, found.dtype) == ((4, 5), np.bool_)
    assert truth.near_field_loss == 0.1
    with open_channels(path, variable="distance", layout="ns", allow_real=True) as places:
        distance = places.read(0, 4)[:, 0].real
    with open_channels(path, variable="angle_rad", layout="ns", allow_real=True) as places:
        angle = places.read(0, 4)[:, 0].real
    curvature = (64 * np.cos(angle)) ** 2 * (0.5 * 299792458 / 30e9) / (4 * distance)
    np.testing.assert_array_equal(found, np.sqrt(curvature) >= 0.98641)


def test_the_struct_of_the_channels_comes_before_the_top_level(write_mat: WriteMat) -> None:
    labels = random_labels()
    H = random_channels(S, K, N).transpose(2, 1, 0)
    path = write_mat(chan={"H": H, "near_field": labels}, near_field=~labels, other=~labels)
    with open_channels(path, variable="chan.H", layout="nks") as file:
        np.testing.assert_array_equal(read_labels(file, None)[0], labels.T)
        np.testing.assert_array_equal(read_labels(file, "other")[0], ~labels.T)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (
            np.zeros((4, S)),
            r"near_field is 4 x 6; expected a label per user, 3 x 6; correct it, or pass --near-field none",
        ),
        (np.full((K, S), 0.5), r"near_field\(1,1\) = 0.5; labels are 0 and 1; correct it, or pass --near-field none"),
        (np.full((K, S), np.nan), r"near_field\(1,1\) = nan; labels are 0 and 1"),
        (np.where(np.arange(S) == 4, 2, 1) * np.ones((K, 1)), r"near_field\(1,5\) = 2; labels are 0 and 1"),
        (np.ones((K, S)) * 1j, r"near_field \(double\) holds no labels; expected 0 and 1 per user"),
        ("near", r"near_field \(char\) holds no labels"),
    ],
)
def test_what_is_no_label_is_refused(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, stored: Any, message: str
) -> None:
    path = write_mat(random_channels(S, K, N), near_field=stored)
    with open_channels(path, variable="H", layout="nks") as file, pytest.raises(NflaeError, match=message):
        read_labels(file, None)
    command = ("precode", path, "-o", tmp_path / "out.mat", "--var", "H", "--layout", "nks", "--scheme", "mrt")
    refused = nflae(*command)
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert not (tmp_path / "out.mat").exists()
    assert nflae(*command, "--near-field", "none").exit_code == 0


def test_a_missing_variable_is_named(write_mat: WriteMat) -> None:
    path = write_mat(random_channels(S, K, N))
    with open_channels(path, layout="nks") as file:
        assert read_labels(file, None) == (None, "")
        with pytest.raises(NflaeError, match="no variable lab; pass --near-field with the name of an array of 0 and 1"):
            read_labels(file, "lab")


@pytest.mark.parametrize("name", ["nflae", "wmmse", "rzf", "zf"])
def test_given_labels_decide_c3(nflae: Run, write_mat: WriteMat, tmp_path: Path, name: str) -> None:
    labels = random_labels()
    H = random_channels(S, K, N)
    H[4] = np.nan  # the labels of the drops after a bad one stay theirs
    path = write_mat(H, mine=labels.astype(float))
    options = ("--layout", "nks", "--alpha-c", 0.2, "--scheme", name, "--near-field", "mine", "--batch", 4)
    done = nflae("precode", path, "-o", tmp_path / "out.mat", *options, "--on-bad-drop", "skip")
    assert done.exit_code == 0, done.output
    assert "mine in in.mat, 3 x 6" in done.output
    assert "undecided" not in done.output
    result = load(tmp_path / "out.mat")
    good = np.arange(S) != 4
    np.testing.assert_array_equal(result["near_field"][:, good].astype(bool), labels[:, good])
    np.testing.assert_array_equal(result["near_field_score"][:, good], labels[:, good])
    assert np.isnan(result["near_field_score"][:, 4]).all()
    share = (result["power"] * labels).sum(0)[good]
    assert share.max() <= 0.2 + 1e-9
    assert result["power"][:, good].sum(0).max() <= 1 + 1e-9
    assert result["nflae_info"]["labels"] == "mine in in.mat, 3 x 6"


def test_every_scheme_has_the_labels_of_the_network(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    """Most of these labels differ from those of the test for plane waves that the schemes make by themselves."""
    H = half_scattered()
    path = write_mat(H)
    results = {}
    for name in ("nflae", "rzf", "ldma"):
        output = tmp_path / f"{name}.mat"
        done = nflae("precode", path, "-o", output, "--layout", "nks", "--scheme", name, "--alpha-c", 0.3)
        assert done.exit_code == 0, done.output
        results[name] = load(output)
    expected = results["nflae"]["near_field"].astype(bool)
    assert (far_field_test(torch.from_numpy(H)).numpy() != expected.T).any()
    for result in results.values():
        np.testing.assert_array_equal(result["near_field"].astype(bool), expected)
        np.testing.assert_allclose(result["near_field_score"], results["nflae"]["near_field_score"], atol=1e-4)
        assert (result["power"] * expected).sum(0).max() <= 0.3 + 1e-9
        assert result["nflae_info"]["labels"] == "network (model tiny)"
    ours, rzf = precode(H), precode(H, scheme="rzf", alpha_c=0.3)
    np.testing.assert_array_equal(ours.near_field.T, expected)
    np.testing.assert_array_equal(rzf.near_field.T, expected)
    np.testing.assert_allclose(rzf.near_field_score, ours.near_field_score, atol=1e-4)


def test_scattered_users_are_undecided(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    H = half_scattered()
    path, output = write_mat(H), tmp_path / "out.mat"
    done = nflae("precode", path, "-o", output, "--layout", "nks", "--plot", tmp_path / "map.svg")
    assert done.exit_code == 0, done.output
    score = load(output)["near_field_score"]
    assert (score[2:] == 0.5).all()
    assert (score[:2] != 0.5).all()
    assert "50.0 % (20 of 40): their channels are not a single spherical wave" in " ".join(done.output.split())
    assert (tmp_path / "map.svg").exists()
    assert "undecided" not in nflae("precode", write_mat(H[:, :2]), "-o", output, "--layout", "nks").output


def test_undecided_users_keep_the_label_that_c3_went_by() -> None:
    channels = torch.from_numpy(half_scattered())
    network = load_network("tiny", "cpu")
    score = network.near_field_score(channels)
    alone = network(ChannelBatch(channels), LinkBudget(alpha_c=0.3))
    for made, source in ((network, LabelSource()), (scheme("rzf"), LabelSource(score=network.near_field_score))):
        result = precode_labelled(made, channels, LinkBudget(alpha_c=0.3), source, None)
        assert torch.equal(result.near_field, score > 0.5)
        torch.testing.assert_close(result.near_field_score[:, :2], score[:, :2], atol=1e-4, rtol=0)
        assert (result.near_field_score[:, 2:] == 0.5).all()
        assert float((result.power * result.near_field).sum(-1).max()) <= 0.3 + 1e-9
    torch.testing.assert_close(
        alone.power, precode_labelled(network, channels, LinkBudget(alpha_c=0.3), LabelSource(), None).power
    )


def test_the_fallback_line_says_what_it_means() -> None:
    assert _fallback_meaning(0, 10) == "every result is that of the network"
    assert "on every drop and is returned; the network adds next to nothing" in _fallback_meaning(10, 10)
    assert "--scheme rzf serves them in less time" in _fallback_meaning(187, 200)
    assert _fallback_meaning(20, 200).endswith("the others are those of the network")
    selected = _fallback_meaning(200, 200, all_served=False)
    assert selected.endswith("RZF is that of selected users")
    assert "--scheme rzf" not in selected


@pytest.mark.parametrize("name", ["own", "none"])
def test_evaluate_takes_the_same_labels(nflae: Run, write_mat: WriteMat, tmp_path: Path, name: str) -> None:
    """With every user near-field all schemes have a fifth of the power: the rates of precode with P = 0.2."""
    H = half_scattered(drops=6)
    path, out = write_mat(H, own=np.ones((4, 6))), tmp_path / "out.mat"
    options = ("--alpha-c", 0.2, "--near-field", name, "--noise-dbw", -20)
    done = nflae("evaluate", path, "--schemes", "rzf,nflae", "--csv", tmp_path / "out.csv", *options)
    assert done.exit_code == 0, done.output
    shown = " ".join(done.output.split())
    assert ("100.0 % of the users near-field (own in in.mat, 4 x 6)" in shown) == (name == "own")
    assert ("near-field (model tiny)" in shown) == (name == "none")
    rows = dict(line.split(",")[:2] for line in (tmp_path / "out.csv").read_text().splitlines())
    for scheme_name in ("rzf", "nflae"):
        assert nflae("precode", path, "-o", out, "--scheme", scheme_name, *options).exit_code == 0
        result = load(out)
        assert float(rows[scheme_name]) == pytest.approx(result["sum_rate"].mean(), rel=1e-4)
        assert (result["power"].sum() == pytest.approx(0.2 * 6)) == (name == "own")
