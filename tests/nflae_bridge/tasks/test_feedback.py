"""The task ``feedback``: sites, prompts, the bits of a codec, and a training error that falls."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from matlab_io.errors import NflaeError
from nflae_bridge.network.checkpoint import load_checkpoint
from nflae_bridge.network.config import BackboneConfig
from nflae_bridge.network.csi.feedback_codec import FeedbackCodec, FeedbackConfig
from nflae_bridge.studies.models import compare_models
from nflae_bridge.tasks.feedback import FEEDBACK
from nflae_bridge.training.loop import Trainer
from nflae_bridge.training.sources.feedback_sites import SiteDistribution, draw_sites, mean_magnitude

TINY = BackboneConfig(width=16, layers=1, heads=2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def codec(prompted: bool) -> FeedbackCodec:
    return FeedbackCodec(FeedbackConfig(prompted=prompted, backbone=TINY)).eval()


def test_sites_and_their_magnitudes() -> None:
    """Unit norms; a site's users leave within its range of directions; the prompt is the mean over users."""
    drawn = draw_sites(3, 40, 64, generator())[:, :, 0]
    torch.testing.assert_close(drawn.norm(dim=-1), torch.ones(3, 40))
    power = torch.fft.fft(drawn).abs().square().mean(1)
    width = 0.3 * 64 / 2 + 4
    for site in power:
        rolled = torch.stack([site.roll(shift)[: round(width)].sum() for shift in range(64)])
        assert rolled.max() > 0.95 * site.sum()
    found = mean_magnitude(drawn)
    expected = torch.stack([torch.fft.fft(user).abs() for user in drawn[0]]).mean(0)
    torch.testing.assert_close(found[0], expected / expected.max())


@torch.no_grad()
def test_learned_codec_sends_the_bits_it_states() -> None:
    """The code has 64 bits and does not depend on scale and phase; without a prompt the decoder ignores the site."""
    torch.manual_seed(0)
    channels = draw_sites(1, 5, 64, generator())[0, :, 0]
    plain, prompted = (codec(each) for each in (False, True))
    numbers = plain.code(channels).round()
    assert numbers.flatten(1).shape[1] * 2 == plain.config.bits == 64
    assert set(numbers.unique().tolist()) <= {0, 1, 2, 3}
    some = torch.rand(5, 64, generator=generator())
    turned = 7 * channels * torch.polar(torch.tensor(1.0), torch.tensor(1.0))
    torch.testing.assert_close(plain(turned, some), plain(channels, some), rtol=1e-3, atol=1e-4)
    assert torch.equal(plain(channels, some), plain(channels, 0 * some))
    assert not torch.equal(prompted(channels, some), prompted(channels, 0 * some))
    torch.testing.assert_close(plain(channels, some).norm(dim=-1), torch.ones(5))


def test_sites_move() -> None:
    """A path alone turns by at most 0.07 cycles per snapshot; six paths change a channel, but little within 1 ms."""
    drawn = draw_sites(2, 100, 32, generator(), 3)
    assert drawn.shape == (2, 100, 3, 32)
    step = (drawn[:, :, 1:].conj() * drawn[:, :, :-1]).sum(-1).abs()
    assert 0.9 < float(step.mean()) < 0.999
    phase = (drawn[:, :, 1].conj() * drawn[:, :, 0]).sum(-1).angle().abs()
    assert float(phase.mean()) < 2 * math.pi * 0.07
    torch.testing.assert_close(draw_sites(2, 100, 32, generator(), 1)[:, :, 0], drawn[:, :, 0])


def test_prompt_is_of_other_users_of_the_site() -> None:
    batch = SiteDistribution(sites=3, users=2).training(1, 4)
    assert batch.channels.shape == batch.magnitude.shape == (6, 64)
    assert torch.equal(batch.magnitude[0], batch.magnitude[1])
    assert not torch.equal(batch.magnitude[1], batch.magnitude[2])
    power = torch.fft.fft(batch.channels).abs().square()
    own = (power * batch.magnitude).sum(-1) / power.sum(-1)
    assert own.mean() > 2 * ((power * batch.magnitude.roll(2, 0)).sum(-1) / power.sum(-1)).mean()


def test_training_raises_the_similarity(tmp_path: Path) -> None:
    """From a random direction (1/64 on average) in a few steps; the model says that it is not served."""
    preset = FEEDBACK.presets["feedback-prompt-tiny"].recipe
    network = replace(preset.network, backbone=TINY)
    short = replace(preset, network=network, steps=60, warm_up=5, learning_rate=1e-2, validate_every=60)
    trainer = Trainer("feedback-prompt-tiny", short, tmp_path / "run", torch.device("cpu"), resume=False)
    for _ in trainer.run():
        pass
    assert trainer.best > 0.1
    model = load_checkpoint(tmp_path / "run")
    assert model.task == "feedback"
    with pytest.raises(NflaeError, match="task feedback are not compared: none: nflae feedback has no learned codec"):
        list(compare_models([model]))
