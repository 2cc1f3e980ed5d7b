"""Run a checkpoint's exported ONNX graphs in ONNX Runtime, which takes a tenth of PyTorch's overhead per operation.

ONNX Runtime is imported and a graph compiled when `ExportedGraph.load` is first called. A graph that is missing, is of
other weights, or cannot be loaded is reported once as a warning on the logger ``nflae_bridge.engine`` and left unused;
PyTorch then computes the same.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nflae_bridge.network.checkpoint import WEIGHTS, file_hash
from nflae_bridge.network.encoders.wavefront import (
    LONG_SUBARRAY,
    SUBARRAYS,
    USERS_PER_PART,
    fourier,
    subarray_length,
)
from nflae_bridge.network.export import COEFFICIENTS, POWERS, WAVEFRONT, WEIGHTS_HASH

Single = npt.NDArray[np.float32]
Real = npt.NDArray[np.float64]
Run = Callable[[Mapping[str, npt.NDArray[Any]]], list[npt.NDArray[Any]]]

_LARGEST_EXPONENT = 700.0  # of the exponential in double precision

_LOG = logging.getLogger("nflae_bridge.engine")


class ExportedGraph:
    """Hold one exported graph of a checkpoint; threads may share it.

    Parameters
    ----------
    folder
        The checkpoint; None for a network that lies in no folder.
    name
        File name of the graph.

    Attributes
    ----------
    unusable
        Reason for which the graph cannot be used; empty while none is known.
    requested
        Whether a computation could have used the graph already.
    """

    def __init__(self, folder: Path | None, name: str) -> None:
        self.requested = False
        self._path = None if folder is None else folder / name
        self._run: Run | None = None
        self._lock = threading.Lock()
        self.unusable = ""
        if self._path is None or folder is None or not (folder / WEIGHTS).is_file():
            self.unusable = "the network has no exported graphs"
        elif not self._path.is_file():
            self.unusable = f"{self._path} is missing; write it by: python -m nflae_bridge.network.export {folder}"
        elif find_spec("onnxruntime") is None:
            self.unusable = "ONNX Runtime is not installed"

    def load(self) -> Run | None:
        """Compile the graph at the first call.

        Returns
        -------
        Run or None
            Function from inputs to outputs; None where the graph is `unusable`.
        """
        if self._run is None and not self.unusable:
            with self._lock:
                if self._run is None and not self.unusable:
                    self._compile()
        return self._run

    def _compile(self) -> None:
        import onnxruntime

        assert self._path is not None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime derives its errors from Exception alone
            reason = str(error).strip().splitlines()[0]
            self.unusable = f"{self._path} cannot be loaded ({reason})"
        else:
            found = session.get_modelmeta().custom_metadata_map.get(WEIGHTS_HASH)
            if found != file_hash(self._path.with_name(WEIGHTS)):
                self.unusable = f"{self._path} is of other weights than {WEIGHTS}"
        if self.unusable:
            folder = self._path.parent
            advice = f"write it again by: python -m nflae_bridge.network.export {folder}"
            _LOG.warning("%s; PyTorch computes instead; %s", self.unusable, advice)
            return
        self._run = lambda inputs: session.run(None, inputs)


class PowerGraph(ExportedGraph):
    """Map drops without constraints to power fractions.

    Parameters
    ----------
    folder
        The checkpoint.
    """

    def __init__(self, folder: Path | None) -> None:
        super().__init__(folder, POWERS)


class CoefficientGraph(ExportedGraph):
    """Map features of temporal Gram matrices to what defines prediction coefficients.

    Parameters
    ----------
    folder
        The checkpoint.
    """

    def __init__(self, folder: Path | None) -> None:
        super().__init__(folder, COEFFICIENTS)

    def runner(self) -> Callable[[npt.NDArray[Any], npt.NDArray[Any]], npt.NDArray[Any]] | None:
        """Return the graph as a function of features and bias.

        Returns
        -------
        Callable or None
            See `nflae_bridge.network.csi.temporal_gram.TemporalGramNetwork.outputs`; None where the graph is
            `unusable`.
        """
        run = self.load()
        return None if run is None else lambda features, bias: run({"features": features, "bias": bias})[0]


class WavefrontGraph(ExportedGraph):
    """Map channels of any number of antennas to near-field logits.

    Parameters
    ----------
    folder
        The checkpoint.
    """

    max_antennas = SUBARRAYS * LONG_SUBARRAY
    """Antennas above which PyTorch's FFT takes less time than the graph's product with the Fourier matrix."""

    def __init__(self, folder: Path | None) -> None:
        super().__init__(folder, WAVEFRONT)
        self._matrices: dict[int, Single] = {}

    def scores(self, channels: npt.NDArray[np.complex64]) -> Real | None:
        """Compute near-field scores.

        Parameters
        ----------
        channels
            As in `logits`.

        Returns
        -------
        Real or None
            The logistic function of the logits, float64 (drops, users); None where the graph is `unusable`.
        """
        found = self.logits(channels)
        if found is None:
            return None
        scores = np.negative(found, dtype=np.float64)
        np.minimum(scores, _LARGEST_EXPONENT, out=scores)
        np.exp(scores, out=scores)
        scores += 1
        result: Real = np.divide(1, scores, out=scores)
        return result

    def logits(self, channels: npt.NDArray[np.complex64]) -> Single | None:
        """Compute near-field logits.

        Parameters
        ----------
        channels
            complex64 (drops, users, antennas), contiguous.

        Returns
        -------
        Single or None
            float32 (drops, users); None where the graph is `unusable`.
        """
        run = self.load()
        if run is None:
            return None
        shape, antennas = channels.shape[:-1], channels.shape[-1]
        if not channels.size:
            return np.empty(shape, np.float32)
        length = subarray_length(antennas)
        if length not in self._matrices:
            self._matrices[length] = fourier(length, torch.device("cpu")).numpy()
        matrix = self._matrices[length]
        parts = channels.reshape(-1, antennas).view(np.float32)
        if length * SUBARRAYS > antennas:
            parts = np.pad(parts, ((0, 0), (0, 2 * (length * SUBARRAYS - antennas))))
        subarrays = parts.reshape(-1, SUBARRAYS, 2 * length)
        logits = [
            run({"subarrays": subarrays[start : start + USERS_PER_PART], "matrix": matrix})[0]
            for start in range(0, len(subarrays), USERS_PER_PART)
        ]
        return (logits[0] if len(logits) == 1 else np.concatenate(logits)).reshape(shape)
