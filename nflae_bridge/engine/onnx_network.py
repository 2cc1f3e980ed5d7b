"""The network as an ONNX graph, which ONNX Runtime computes on a CPU: for one drop in a fifteenth of the time.

A drop of ten users is 30 us of arithmetic; PyTorch takes another 10 us for each of some hundred operations. ONNX
Runtime takes 1 us, and holds Python's lock only at the start and the end of the graph.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nflae_bridge.engine.onnx_graph import CONTRIBUTED, Graph, Single
from nflae_bridge.network.backbone import OpenBackbone
from nflae_bridge.network.encoders.gram import PAIR_FEATURES, USER_FEATURES, GramEncoder
from nflae_bridge.network.model import PrecodingNetwork

Real = npt.NDArray[np.float64]

_SMALLEST_LOGIT = -300.0  # a share of e^-300 is as good as none, and doesn't underflow


def compilable(network: PrecodingNetwork) -> bool:
    """Whether `CompiledNetwork` can take it: a gram encoder without blocks of its own, and the trunk built here."""
    simple_encoder = isinstance(network.encoder, GramEncoder) and not len(network.encoder.blocks)
    return simple_encoder and isinstance(network.backbone, OpenBackbone) and not network.config.head_width


class CompiledNetwork:
    """A network that is `compilable`. Threads may share it."""

    def __init__(self, network: PrecodingNetwork) -> None:
        graph = Graph({"users": ["drops", "users", USER_FEATURES], "pairs": ["drops", "users", "users", PAIR_FEATURES]})
        self._logits = graph.session(_logits(graph, network), ["drops", "users", 2])

    def power_fractions(self, users: Single, pairs: Single) -> Real:
        """lambda / P and P_k / P, float64 (drops, users, 2), from features as `gram_features` gives them."""
        logits = self._logits({"users": users, "pairs": pairs}).astype(np.float64)
        values: Real = 1 / (1 + np.exp(-np.maximum(logits, _SMALLEST_LOGIT)))
        values /= np.add.reduce(values, 1, keepdims=True)
        return values


def _logits(graph: Graph, network: PrecodingNetwork) -> str:
    """The heads' logits, (drops, users, 2), from the graph's inputs."""
    weights = {name: tensor.detach().float().cpu().numpy() for name, tensor in network.state_dict().items()}

    def linear(of: str, layer: str) -> tuple[str, Single]:
        """A layer as `torch.nn.Linear` keeps it: its product and its bias, not added yet."""
        return graph.node("MatMul", of, weights[layer + ".weight"].T), weights[layer + ".bias"]

    def projection(of: str, layer: str) -> tuple[str, Single]:
        """The same of a layer as GPT-2 keeps it."""
        return graph.node("MatMul", of, weights[layer + ".weight"]), weights[layer + ".bias"]

    def gelu(product: str, bias: Single) -> str:
        return graph.node("BiasGelu", product, bias, domain=CONTRIBUTED)

    def layer_norm(of: str, layer: str) -> str:
        scale, offset = weights[layer + ".weight"], weights[layer + ".bias"]
        return graph.node("LayerNormalization", of, scale, offset, axis=-1, epsilon=1e-5)

    edges = gelu(*linear("pairs", "encoder.pairs.0"))
    others = np.array([2])
    around = [graph.node(kind, edges, others, keepdims=0) for kind in ("ReduceSum", "ReduceMax")]
    around_weight = weights["encoder.surroundings.weight"].T.copy()
    around_weight[: len(around_weight) // 2] /= np.float32(8**0.5)
    seen = graph.node("Concat", "users", *around, axis=-1)
    product = graph.node("MatMul", seen, np.concatenate([weights["encoder.users.weight"].T, around_weight]))
    always = weights["encoder.users.bias"] + weights["encoder.surroundings.bias"]
    rows = graph.node("Add", product, always + weights["backbone.model.wpe.weight"][0])
    bias = graph.node("Transpose", graph.node("Add", *linear(edges, "encoder.bias")), perm=[0, 3, 1, 2])

    def added(rows: str, product: str, bias: Single) -> str:
        return graph.node("Add", rows, graph.node("Add", product, bias))

    heads = network.config.backbone.heads
    for at in range(network.config.backbone.layers):
        block = f"backbone.model.h.{at}."
        normed = layer_norm(rows, block + "ln_1")
        attend = weights[block + "attn.c_attn.weight"], weights[block + "attn.c_attn.bias"]
        mixed = graph.node("Attention", normed, *attend, "", "", bias, domain=CONTRIBUTED, num_heads=heads)
        rows = added(rows, *projection(mixed, block + "attn.c_proj"))
        widened = gelu(*projection(layer_norm(rows, block + "ln_2"), block + "mlp.c_fc"))
        rows = added(rows, *projection(widened, block + "mlp.c_proj"))

    names = ("heads.uplink", "heads.power")
    ends = np.stack([weights[name + ".weight"][0] for name in names], 1)
    offsets = np.array([weights[name + ".bias"][0] for name in names])
    return graph.node("Add", graph.node("MatMul", layer_norm(rows, "backbone.model.ln_f"), ends), offsets)
