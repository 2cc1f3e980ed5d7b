"""Checks of a sequence: what they refuse by name, and that true sequences pass, also noisy ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from simulator.channels.scenario import scenario
from simulator.csi.impairments import noisy_csi
from simulator.csi.sequences.order import check_sequence


def walk(snapshots: int = 16, users: int = 3, antennas: int = 32, seed: int = 0) -> Tensor:
    """Users of four slowly turning paths each, (snapshots, users, antennas)."""
    generator = torch.Generator().manual_seed(seed)
    angle = 2 * torch.rand(users, 4, 1, 1, generator=generator) - 1
    doppler = 0.2 * torch.rand(users, 4, 1, 1, generator=generator) - 0.1
    gain = torch.rand(users, 4, 1, 1, generator=generator) + 0.1
    time, place = torch.arange(snapshots).reshape(-1, 1), torch.arange(antennas)
    phase = torch.pi * (2 * doppler * time + angle * place)
    return torch.polar(gain.expand_as(phase), phase).sum(1).transpose(0, 1).contiguous()


def check(channels: Tensor, missing: Tensor | None = None, force: bool = False) -> str | None:
    none = torch.zeros(channels.shape[:2], dtype=torch.bool)
    return check_sequence(channels, none if missing is None else missing, lambda s: f"drop {s + 1}", "--force", force)


@pytest.mark.parametrize("snr_db", [None, 10.0, 0.0])
@pytest.mark.parametrize("antennas", [32, 128])
def test_sequences_pass(snr_db: float | None, antennas: int) -> None:
    for seed in range(10):
        channels = walk(antennas=antennas, seed=seed)
        if snr_db is not None:
            channels = noisy_csi(channels, snr_db, torch.Generator().manual_seed(seed))
        assert check(channels) is None


def test_users_at_rest_pass_with_few_antennas_and_gaps_too() -> None:
    still = walk(snapshots=1, antennas=4).expand(16, 3, 4)
    channels = noisy_csi(still, 10.0, torch.Generator().manual_seed(2))
    assert check(channels) is None
    missing = torch.zeros(16, 3, dtype=torch.bool)
    missing[1::3] = True
    assert check(torch.where(missing.unsqueeze(-1), 0, channels), missing) is None


def test_one_snapshot_or_one_antenna_passes() -> None:
    assert check(walk(snapshots=1)) is None
    assert check(walk(antennas=1)) is None


@pytest.mark.parametrize("name", ["uav", "paper"])
def test_independent_drops_are_refused_and_force_says_so(name: str) -> None:
    for seed in range(10):
        drops = scenario(name, 4, 64).draw(16, torch.Generator().manual_seed(seed)).channels  # type: ignore[arg-type]
        drops = drops / torch.linalg.vector_norm(drops, dim=-1, keepdim=True)
        with pytest.raises(NflaeError, match=r"drop 1 and those after it, user 1 to 4: .*uncorrelated.*, or --"):
            check(drops)
        assert "uncorrelated" in str(check(drops, force=True))


def test_users_that_change_places_are_named() -> None:
    channels = walk(users=4)
    channels[9:, [1, 3]] = channels[9:, [3, 1]]
    with pytest.raises(NflaeError, match="drop 10, user 4: is user 2 of the snapshot before"):
        check(channels)
    assert "drop 10, user 4" in str(check(channels, force=True))
    noisy = noisy_csi(channels, 5.0, torch.Generator().manual_seed(1))
    with pytest.raises(NflaeError, match="drop 10, user 4"):
        check(noisy)


def test_a_cycle_of_three_users_is_found_too() -> None:
    channels = walk(users=3)
    channels[5:] = channels[5:, [1, 2, 0]]
    with pytest.raises(NflaeError, match="drop 6, user 3: is user 1"):
        check(channels)


@pytest.mark.parametrize(("scale", "told"), [(1e3, r"\+[56]\d"), (1e-2, r"-[34]\d")])
def test_a_jump_of_the_scale_is_named(scale: float, told: str) -> None:
    channels = walk()
    channels[11:, 2] *= scale
    with pytest.raises(NflaeError, match=f"drop 12, user 3: the gain changes by {told}"):
        check(channels)


def test_gaps_do_not_count() -> None:
    channels, missing = walk(), torch.zeros(16, 3, dtype=torch.bool)
    channels[4, 1] = 0
    missing[4, 1] = True
    assert check(channels, missing) is None
    with pytest.raises(NflaeError, match="drop 5, user 2"):
        check(channels)
