"""nflae link with CSI models that need the history of a file."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("sionna")

from matlab_io import open_channels
from nflae_bridge import predict
from nflae_bridge.studies.link.source import FileDrops
from simulator.csi.models import CsiContext, parse_csi
from tests.channel_files import Run, WriteMat, random_channels
from tests.moving_users import moving_users


def spectral_efficiency(nflae: Run, source: Path, folder: Path, *options: object) -> float:
    quick = (
        "--scheme",
        "zf",
        "--snr-db",
        "15",
        "--drops",
        20,
        "--code",
        "none",
        "--modulation",
        "qpsk",
        "--symbols",
        24,
    )
    done = nflae("link", source, "-o", folder, *quick, *options)
    assert done.exit_code == 0, done.output
    with (folder / "link.csv").open() as file:
        (row,) = csv.DictReader(file)
    return float(row["se"])


def test_predicted_csi_is_the_prediction_from_the_drops_before(write_mat: WriteMat) -> None:
    channels = moving_users(24, antennas=8)
    csi = parse_csi("predicted:2,ar,8")
    with open_channels(write_mat(channels)) as file:
        source = FileDrops(file, 1000, 5, csi, 1, "error")
    assert source.drops.tolist() == list(range(9, 24))
    batch = source.recipe(1).batch()
    known = csi.estimate(batch.snapshots, batch.history, CsiContext(torch.Generator()))[batch.known_of]
    for place, drop in enumerate(source.drops[5:10]):
        expected = predict(channels[drop - 9 : drop - 1], ahead=2, method="ar").channels[-1]
        np.testing.assert_allclose(known[place], expected, atol=1e-4)


def test_prediction_bridges_the_age_of_noisy_csi(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    source = write_mat(moving_users(40, users=4, snr_db=None))
    kinds = ("noisy:10,aged:4", "noisy:10,predicted:4,ar", "perfect")
    aged, predicted, perfect = (
        spectral_efficiency(nflae, source, tmp_path / str(place), "--csi", kind) for place, kind in enumerate(kinds)
    )
    assert aged + 1 < predicted
    assert predicted < perfect


def test_prediction_needs_a_sequence(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    shape = ("-o", tmp_path / "out", "--scheme", "rzf", "--csi", "predicted:2,noisy:10")
    done = nflae("link", "--scenario", "uav", *shape)
    assert done.exit_code == 2
    assert "nothing can be predicted" in " ".join(done.output.replace("│", " ").split())
    done = nflae("link", write_mat(random_channels(drops=40)), *shape)
    assert done.exit_code == 1
    assert "uncorrelated" in done.stderr
    assert "or choose a --csi that needs no history" in done.stderr
    done = nflae("link", write_mat(moving_users(12)), *shape)
    assert "none of 12 drops can be used with CSI from 2 slots before and a history of 16 slots" in done.stderr
