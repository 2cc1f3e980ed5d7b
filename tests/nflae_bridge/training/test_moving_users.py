"""Training data and loss of the predictor: SNRs, rich scattering, the sum rate that predicted CSI costs."""

from __future__ import annotations

import torch

from nflae_bridge.studies.csi.measures import sum_rates
from nflae_bridge.tasks.predict import PREDICT, MovingUsers, PredictionLoss
from nflae_bridge.training.loss import predicted_rate_loss
from nflae_bridge.training.moving_paths import draw_moving_paths, draw_rich_paths
from simulator.schemes.registry import scheme


def test_lost_rate_is_that_of_rzf_on_the_true_channels() -> None:
    g = torch.Generator().manual_seed(3)
    truth = draw_moving_paths(20, 16, 3, g)  # 18 series in drops of six, two left out
    csi = truth + 0.4 * torch.randn(truth.shape, dtype=torch.complex64, generator=g)
    scale = truth.abs().square().sum(-1).mean(1).rsqrt()[:, None, None]
    h, found = scale * truth, scale * csi
    rates = [
        [float(sum_rates(h[:, slot], known[:, slot], scheme("rzf")).mean()) for slot in range(3)]
        for known in (found, h)
    ]
    expected = [1 - reached / perfect for reached, perfect in zip(*rates, strict=True)]
    assert min(expected) > 0.05
    torch.testing.assert_close(predicted_rate_loss(csi, truth, 0.01), torch.tensor(expected), atol=1e-4, rtol=1e-3)


def test_rate_counts_in_the_loss_by_its_weight() -> None:
    batch = MovingUsers(series=6, antennas=(16,), histories=(16,), known_line=0).training(1, 1)
    network = PREDICT.build(PREDICT.presets["predict-tiny"].recipe.network, True)
    without, with_rate = (
        PREDICT.loss(network, PREDICT.prepare(network, batch, PredictionLoss(rate)), PredictionLoss(rate))
        for rate in (0.0, 2.0)
    )
    difference = (with_rate["loss"] - without["loss"]).detach()
    assert float(difference) > 2 * float(with_rate["lost_rate"]) > 0  # four horizons, and later ones by a quarter


def test_noisy_series_stay_below_their_snr() -> None:
    noisy, other = (MovingUsers(series=200, antennas=(4,), noisy=share).training(2, 3) for share in (1.0, 0.0))
    variance = noisy.window.noise_variance
    assert float(variance.min()) >= 10**-1.2
    assert float(variance.max()) <= 10**0.5
    assert float(other.window.noise_variance.min()) < 10**-2.5


def test_rich_paths_have_unit_power_and_many_components() -> None:
    found = draw_rich_paths(100, 64, 24, torch.Generator().manual_seed(5))
    torch.testing.assert_close(found.abs().square().mean((1, 2)), torch.ones(100))
    values = torch.linalg.svdvals(found).square()
    components = (values > 1e-6 * values[:, :1]).sum(-1)
    assert int(components.median()) >= 6
    assert int(components.max()) >= 20
