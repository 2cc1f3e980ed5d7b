"""Export a network's real-valued parts to ONNX, for small batches on a CPU.

Graphs lie beside a checkpoint's weights. For precoding, ``powers.onnx`` maps the quantities of `FeatureInputs` of drops
without constraints to power fractions, and ``wavefront.onnx`` maps sub-arrays to near-field logits. For prediction,
``coefficients.onnx`` maps features to what defines the coefficients. A graph refers to the tensors in the weights' file
(ONNX external data) and holds only what is not there as it is; it holds the SHA-256 of that file too, by which a graph
of other weights is recognised. Training needs `onnx` for it; running the graphs needs ONNX Runtime alone.

    python -m nflae_bridge.network.export FOLDER    writes the graphs of the checkpoint in FOLDER again
"""

from __future__ import annotations

import copy
import io
import json
import sys
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from matlab_io.extras import require
from nflae_bridge.network.checkpoint import GRAPHS, WEIGHTS, file_hash, load_checkpoint, write_atomically
from nflae_bridge.network.csi.temporal_gram import TemporalGramNetwork
from nflae_bridge.network.encoders.gram import FeatureInputs, GramEncoder, InvariantEncoder
from nflae_bridge.network.encoders.wavefront import SUBARRAYS, WavefrontClassifier, fourier
from nflae_bridge.network.interface import TaskNetwork
from nflae_bridge.network.model import PrecodingNetwork, power_fractions_of
from nflae_bridge.network.trunks.backbone import NoBackbone, OpenBackbone
from nflae_bridge.network.trunks.trunk import Attention

POWERS, WAVEFRONT, COEFFICIENTS = GRAPHS
WEIGHTS_HASH = "weights_sha256"
"""Key in a graph's metadata."""
POWER_INPUTS = tuple(field.name for field in fields(FeatureInputs))
_PER_PAIR = ("coherence", "inverse_power", "effective_gains")
_SMALLEST_REFERENCE = 256  # bytes; a reference takes about as many
_OPERATORS = 20  # the first ONNX operator set with a GELU


class _Powers(nn.Module):
    """Map the quantities of drops without constraints to lambda / P, then P_k / P: float64 (2 drops, users)."""

    def __init__(self, network: PrecodingNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, *quantities: Tensor) -> Tensor:
        encoder = self.network.encoder
        assert isinstance(encoder, GramEncoder)
        logits = self.network.logits(*encoder.embed(FeatureInputs(*quantities), None))
        return power_fractions_of(torch.cat([logits["uplink"], logits["power"]])).double()


class _Wavefront(nn.Module):
    """Map sub-arrays and the Fourier matrix of their length to near-field logits, float32 (users,)."""

    def __init__(self, classifier: WavefrontClassifier) -> None:
        super().__init__()
        self.classifier = classifier
        weight, bias = classifier.first_layer()
        self.weight, self.bias = nn.Buffer(weight.detach()), nn.Buffer(bias.detach())

    def forward(self, subarrays: Tensor, matrix: Tensor) -> Tensor:
        return self.classifier.logit(subarrays, matrix, (self.weight, self.bias))


class _Coefficients(nn.Module):
    """Map features and the attention's bias, zero, to the outputs of `TemporalGramNetwork`, float32 (rows, outputs)."""

    def __init__(self, network: TemporalGramNetwork) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        for module in self.network.modules():
            if isinstance(module, Attention):
                module.fused = False  # this network's scores reach beyond the largest

    def forward(self, features: Tensor, bias: Tensor) -> Tensor:
        return self.network.outputs(features, bias)


def is_exportable(network: TaskNetwork) -> TypeGuard[PrecodingNetwork | TemporalGramNetwork]:
    """Return whether `export_graphs` supports the network.

    Parameters
    ----------
    network
        The network.

    Returns
    -------
    bool
        True for a predictor, and for precoding with an encoder of Gamma and a trunk built here or none.
    """
    if isinstance(network, TemporalGramNetwork):
        return True
    if not isinstance(network, PrecodingNetwork):
        return False
    trunk = isinstance(network.backbone, OpenBackbone | NoBackbone)
    return isinstance(network.encoder, InvariantEncoder) and trunk


def export_graphs(network: PrecodingNetwork | TemporalGramNetwork, weights: Path) -> dict[str, bytes]:
    """Export a network to ONNX graphs.

    Parameters
    ----------
    network
        Network for which `is_exportable` holds.
    weights
        File with its weights; the graphs are to lie in the same folder.

    Returns
    -------
    dict of str to bytes
        Graphs by file name.

    Raises
    ------
    NflaeError
        If `onnx` is not installed.
    """
    network = network.cpu().eval()
    if isinstance(network, TemporalGramNetwork):
        return {COEFFICIENTS: _export_coefficients(network, weights)}
    encoder = network.encoder
    assert isinstance(encoder, InvariantEncoder)
    channels = torch.randn(2, 3, 16, dtype=torch.complex128)
    quantities = FeatureInputs.of(channels.conj() @ channels.transpose(-1, -2))
    values = tuple(getattr(quantities, name).contiguous() for name in POWER_INPUTS)
    axes = {name: {0: "drops", 1: "users"} for name in POWER_INPUTS}
    for name in _PER_PAIR:
        axes[name][2] = "users"
    axes["fractions"] = {0: "both", 1: "users"}
    graphs = {}
    if isinstance(encoder, GramEncoder):  # NumPy runs a kernel encoder in less time
        graphs[POWERS] = _export(_Powers(network), values, POWER_INPUTS, ("fractions",), axes, weights)
    length = 2
    subarrays, matrix = torch.randn(3, SUBARRAYS, 2 * length), fourier(length, torch.device("cpu"))
    axes = {"subarrays": {0: "users", 2: "parts"}, "matrix": {0: "parts", 1: "beams"}, "logit": {0: "users"}}
    graphs[WAVEFRONT] = _export(
        _Wavefront(encoder.classifier), (subarrays, matrix), ("subarrays", "matrix"), ("logit",), axes, weights
    )
    return graphs


def _export_coefficients(network: TemporalGramNetwork, weights: Path) -> bytes:
    features = torch.randn(2, 3, network.embed.in_features)
    bias = torch.zeros(2, network.config.heads, 3, 3)
    axes = {"features": {0: "series", 1: "rows"}, "bias": {0: "series", 2: "rows", 3: "rows"}, "outputs": {0: "both"}}
    return _export(_Coefficients(network), (features, bias), ("features", "bias"), ("outputs",), axes, weights)


def export_checkpoint(folder: Path) -> tuple[Path, ...]:
    """Write the ONNX graphs of a checkpoint beside its weights.

    Parameters
    ----------
    folder
        The checkpoint.

    Returns
    -------
    tuple of Path
        The graphs; empty for a network that `is_exportable` excludes.

    Raises
    ------
    NflaeError
        If the folder holds no checkpoint, or `onnx` is not installed.
    """
    network = load_checkpoint(folder).network
    if not is_exportable(network):
        return ()
    graphs = export_graphs(network, folder / WEIGHTS)
    for name, content in graphs.items():
        write_atomically(folder / name, content)
    return tuple(folder / name for name in graphs)


def _export(
    module: nn.Module,
    values: tuple[Tensor, ...],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    axes: dict[str, dict[int, str]],
    weights: Path,
) -> bytes:
    require("onnx", "exporting a network")
    import onnx

    content = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # Of the exporter's age, and of lengths read from shapes, which it follows all the same.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            values,
            content,  # type: ignore[arg-type]
            dynamo=False,  # the newer exporter needs onnxscript
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=_OPERATORS,
            # Named without a use, it makes the exporter print a warning past Python's.
            custom_opsets={"com.microsoft": 1} if _attends(module) else None,
        )
    model = onnx.load_from_string(content.getvalue())
    entry = model.metadata_props.add()
    entry.key, entry.value = WEIGHTS_HASH, file_hash(weights)
    _refer_to(weights, model)
    exported: bytes = model.SerializeToString()
    return exported


def _attends(module: torch.nn.Module) -> bool:
    return any(isinstance(part, Attention) for part in module.modules())


def _refer_to(weights: Path, model: Any) -> None:
    """Replace initializers whose bytes the weights' file holds by references to their place in it."""
    content = weights.read_bytes()
    data = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:data])
    header.pop("__metadata__", None)
    places = {}
    for start, stop in (entry["data_offsets"] for entry in header.values()):
        places[content[data + start : data + stop]] = data + start
    for tensor in model.graph.initializer:
        place = places.get(tensor.raw_data)
        if place is None or len(tensor.raw_data) < _SMALLEST_REFERENCE:
            continue
        reference = {"location": weights.name, "offset": place, "length": len(tensor.raw_data)}
        for key, value in reference.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)
        tensor.ClearField("raw_data")
        tensor.data_location = type(tensor).EXTERNAL


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        for path in export_checkpoint(Path(argument)):
            print(path)
