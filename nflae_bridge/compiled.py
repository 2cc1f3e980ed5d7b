"""The network as an ONNX graph, which ONNX Runtime computes on a CPU: for few drops in a quarter of PyTorch's time.

A drop of ten users is 30 us of arithmetic; PyTorch takes another 10 us for each of some hundred operations. ONNX
Runtime takes 1 us, and holds Python's lock only at the start and the end of the graph.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from nflae_bridge.network.backbone import OpenBackbone
from nflae_bridge.network.gram_encoder import PAIR_FEATURES, USER_FEATURES, GramEncoder
from nflae_bridge.network.model import PrecodingNetwork

Single = npt.NDArray[np.float32]
Real = npt.NDArray[np.float64]

_OPERATORS = 20  # of ONNX; the first with a GELU
_CONTRIBUTED = "com.microsoft"  # ONNX Runtime's own operators
_SMALLEST_LOGIT = -300.0  # a share of e^-300 is as good as none, and doesn't underflow


class CompiledNetwork:
    """A network with a gram encoder and an open trunk; see `compiled`. Threads may share it."""

    def __init__(self, network: PrecodingNetwork) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(_graph(network), options, providers=["CPUExecutionProvider"])

    def shares(self, users: Single, pairs: Single) -> Real:
        """lambda / P and P_k / P, float64 (drops, users, 2), from features as `gram_features` gives them."""
        logits = self._session.run(None, {"users": users, "pairs": pairs})[0].astype(np.float64)
        values: Real = 1 / (1 + np.exp(-np.maximum(logits, _SMALLEST_LOGIT)))
        values /= np.add.reduce(values, 1, keepdims=True)
        return values


class FromSecondUse:
    """A network's compiled form, which is None when first asked for: compiling takes 0.2 s, more than a call."""

    def __init__(self, network: PrecodingNetwork) -> None:
        self._network = network
        self._used = False
        self._compiled: CompiledNetwork | None = None
        self._mine = threading.Lock()

    def __call__(self) -> CompiledNetwork | None:
        """The compiled network; None the first time."""
        if self._compiled is None:
            with self._mine:
                if not self._used:
                    self._used = True
                elif self._compiled is None:
                    self._compiled = CompiledNetwork(self._network)
        return self._compiled


def compilable(network: PrecodingNetwork) -> bool:
    """Whether `CompiledNetwork` can take it: a gram encoder without blocks of its own, and the trunk built here."""
    simple_encoder = isinstance(network.encoder, GramEncoder) and not len(network.encoder.blocks)
    return simple_encoder and isinstance(network.backbone, OpenBackbone) and not network.config.head_width


class _Graph:
    """Nodes and constants of an ONNX graph that grows."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, values: npt.NDArray[Any]) -> str:
        """A constant of the values' own type; its name."""
        from onnx import numpy_helper

        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, operator: str, *inputs: str | npt.NDArray[Any], domain: str = "", **settings: Any) -> str:
        """A node; the name of its output. Arrays among the inputs become constants."""
        from onnx import helper

        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        name = f"node{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [name], domain=domain, **settings))
        return name


def _graph(network: PrecodingNetwork) -> bytes:
    """(users, pairs), float32 (drops, users, features) and (drops, users, users, features), to logits."""
    from onnx import TensorProto, helper

    weights = {name: tensor.detach().float().cpu().numpy() for name, tensor in network.state_dict().items()}
    graph = _Graph()

    def linear(of: str, layer: str) -> tuple[str, Single]:
        """A layer as `torch.nn.Linear` keeps it: its product and its bias, not added yet."""
        return graph.node("MatMul", of, weights[layer + ".weight"].T), weights[layer + ".bias"]

    def projection(of: str, layer: str) -> tuple[str, Single]:
        """The same of a layer as GPT-2 keeps it."""
        return graph.node("MatMul", of, weights[layer + ".weight"]), weights[layer + ".bias"]

    def gelu(product: str, bias: Single) -> str:
        return graph.node("BiasGelu", product, bias, domain=_CONTRIBUTED)

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
        mixed = graph.node("Attention", normed, *attend, "", "", bias, domain=_CONTRIBUTED, num_heads=heads)
        rows = added(rows, *projection(mixed, block + "attn.c_proj"))
        widened = gelu(*projection(layer_norm(rows, block + "ln_2"), block + "mlp.c_fc"))
        rows = added(rows, *projection(widened, block + "mlp.c_proj"))

    names = ("heads.uplink", "heads.power")
    ends = np.stack([weights[name + ".weight"][0] for name in names], 1)
    offsets = np.array([weights[name + ".bias"][0] for name in names])
    logits = graph.node("Add", graph.node("MatMul", layer_norm(rows, "backbone.model.ln_f"), ends), offsets)
    made = helper.make_graph(
        graph.nodes,
        "network",
        [
            helper.make_tensor_value_info("users", TensorProto.FLOAT, ["drops", "users", USER_FEATURES]),
            helper.make_tensor_value_info("pairs", TensorProto.FLOAT, ["drops", "users", "users", PAIR_FEATURES]),
        ],
        [helper.make_tensor_value_info(logits, TensorProto.FLOAT, ["drops", "users", 2])],
        graph.constants,
    )
    versions = [helper.make_opsetid("", _OPERATORS), helper.make_opsetid(_CONTRIBUTED, 1)]
    # The format's version is that of the operators, so that runtimes of their time can read it.
    model = helper.make_model(made, opset_imports=versions, ir_version=9)
    return bytes(model.SerializeToString())
