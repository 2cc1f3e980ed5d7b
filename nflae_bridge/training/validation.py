"""Run a precoding network on training drops, and compute sum rates under their constraints."""

from __future__ import annotations

from torch import Tensor

from nflae_bridge.network.config import INVARIANT
from nflae_bridge.network.encoders.interface import UserInputs
from nflae_bridge.network.model import NetworkOutput, PrecodingNetwork
from nflae_bridge.training.data import TrainingBatch
from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import normalised_gram
from simulator.downlink.powers import project_power_fractions
from simulator.downlink.sinr import effective_gain_matrix, rates, sinr
from simulator.downlink.structure import structured_coefficients, wmmse_power_fractions


def user_inputs(network: PrecodingNetwork, batch: TrainingBatch, gram: Tensor, with_labels: bool) -> UserInputs:
    """Return the input of the network for a training batch.

    Channels are left out where the network computes nothing from them that the loss needs.

    Parameters
    ----------
    network, batch, gram, with_labels
        As in `forward`.

    Returns
    -------
    UserInputs
        The input.
    """
    needs_channels = batch.labelled or network.config.encoder.kind not in INVARIANT
    return UserInputs(
        batch.channels if needs_channels else None,
        gram,
        batch.alpha_c,
        batch.min_rate,
        batch.near_field if with_labels else None,
    )


def forward(network: PrecodingNetwork, batch: TrainingBatch, gram: Tensor, with_labels: bool) -> NetworkOutput:
    """Run the network on a training batch.

    Parameters
    ----------
    network : PrecodingNetwork
        The network.
    batch : TrainingBatch
        The drops.
    gram : Tensor
        Gamma of the drops, complex (drops, users, users).
    with_labels : bool
        Apply C3 to the labels of the batch instead of those of the network.

    Returns
    -------
    NetworkOutput
        Output of the network.
    """
    output: NetworkOutput = network(user_inputs(network, batch, gram, with_labels))
    return output


def served_rate(batch: TrainingBatch, gram: Tensor, dual_power_fractions: Tensor, power_fractions: Tensor) -> Tensor:
    """Compute the sum rate of (lambda, p) after the projection of the powers onto the constraints of the batch.

    Parameters
    ----------
    batch : TrainingBatch
        The drops, with their labels and constraints.
    gram : Tensor
        Gamma of the drops, complex (drops, users, users).
    dual_power_fractions : Tensor
        lambda / P, (drops, users).
    power_fractions : Tensor
        p / P, (drops, users).

    Returns
    -------
    Tensor
        Sum rate, bps/Hz, float64 (drops,).
    """
    effective_gains = effective_gain_matrix(gram, structured_coefficients(gram, dual_power_fractions))
    held, _ = project_power_fractions(
        effective_gains, power_fractions, batch.near_field, batch.alpha_c.double(), batch.min_rate.double()
    )
    return rates(sinr(effective_gains, held)).sum(-1)


def reference_rate(batch: TrainingBatch) -> Tensor:
    """Compute the sum rate of WMMSE with 200 iterations under the constraints of the batch.

    Parameters
    ----------
    batch : TrainingBatch
        The drops, with their labels and constraints.

    Returns
    -------
    Tensor
        Sum rate, bps/Hz, float64 (drops,).
    """
    gram = normalised_gram(batch.channels, LinkBudget(1.0, 1.0))
    return served_rate(batch, gram, *wmmse_power_fractions(gram, 200))
