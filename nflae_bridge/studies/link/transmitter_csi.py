"""Compute the CSI of the transmitter once per batch of drops, for all SNRs of a sweep."""

from __future__ import annotations

import hashlib

from torch import Tensor

from nflae_bridge.engine.devices import single_thread
from nflae_bridge.studies.link.source import Batch
from simulator.csi.models import CsiContext, CsiModel
from simulator.csi.prediction.window import Predictor
from simulator.link_level.randomness import generator_of

_MOST_BYTES = 1 << 28


class TransmitterCsi:
    """Apply a CSI model to batches and keep the results, which do not depend on the SNR of the sweep.

    At most 256 MiB are kept; batches beyond them are computed for every SNR.

    Parameters
    ----------
    model
        CSI model.
    predictor
        Learned predictor, for predictions that use one; None: none.
    """

    def __init__(self, model: CsiModel, predictor: Predictor | None = None) -> None:
        self._model = model
        self._predictor = predictor
        self._kept: dict[bytes, Tensor] = {}
        self._bytes = 0

    def estimate(self, batch: Batch, seed: int, index: int) -> Tensor:
        """Return the CSI of a batch.

        Parameters
        ----------
        batch
            The batch, on the CPU.
        seed, index
            Seed of the study and number of the batch, from which the CSI errors are drawn.

        Returns
        -------
        Tensor
            complex64 (precoders, users, antennas), on the CPU.
        """
        if not self._model.parts:
            return self._compute(batch, seed, index)
        key = _digest(batch, seed, index)
        if key in self._kept:
            return self._kept[key]
        csi = self._compute(batch, seed, index)
        if self._bytes + csi.nbytes <= _MOST_BYTES:
            self._kept[key] = csi
            self._bytes += csi.nbytes
        return csi

    def _compute(self, batch: Batch, seed: int, index: int) -> Tensor:
        context = CsiContext(generator_of(seed, "csi", index), batch.slot_correlation, self._predictor)
        with single_thread():
            return self._model.estimate(batch.snapshots, batch.history, context)


def _digest(batch: Batch, seed: int, index: int) -> bytes:
    """Return a digest of all that the CSI depends on, for one model."""
    digest = hashlib.blake2b(f"{seed} {index} {batch.slot_correlation}".encode(), digest_size=16)
    for tensor in (batch.snapshots, batch.history):
        digest.update(f"{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.digest()
