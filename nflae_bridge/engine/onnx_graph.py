"""ONNX graphs for ONNX Runtime, put together node by node."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

Single = npt.NDArray[np.float32]
Made = TypeVar("Made")

CONTRIBUTED = "com.microsoft"  # ONNX Runtime's own operators
_OPERATORS = 20  # of ONNX; the first with a GELU
_FORMAT = 9  # that of these operators, so that runtimes of their time can read it


class Graph:
    """A graph that grows; what a node gives is known by its name, and arrays among its inputs become constants.

    inputs: the shape of each, float32; a word stands for a length that isn't known yet.
    """

    def __init__(self, inputs: Mapping[str, list[str | int]]) -> None:
        self._inputs = inputs
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def node(self, operator: str, *inputs: str | npt.NDArray[Any], domain: str = "", **settings: Any) -> str:
        """A node with one output, which has its name. domain: whose the operator is; ONNX's own by default."""
        return self.nodes(operator, *inputs, outputs=1, domain=domain, **settings)[0]

    def nodes(
        self, operator: str, *inputs: str | npt.NDArray[Any], outputs: int, domain: str = "", **settings: Any
    ) -> list[str]:
        """A node with several outputs; their names."""
        from onnx import helper

        given = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        names = [f"node{len(self._nodes)}.{at}" for at in range(outputs)]
        self._nodes.append(helper.make_node(operator, given, names, domain=domain, **settings))
        return names

    def _constant(self, values: npt.NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = f"constant{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def session(self, output: str, shape: list[str | int]) -> Callable[[dict[str, npt.NDArray[Any]]], Single]:
        """The graph compiled, as a function of its inputs that gives one output. Threads may share it."""
        import onnxruntime
        from onnx import TensorProto, helper

        def described(name: str, shape: list[str | int]) -> Any:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

        inputs = [described(name, shape) for name, shape in self._inputs.items()]
        graph = helper.make_graph(self._nodes, "graph", inputs, [described(output, shape)], self._constants)
        operators = [helper.make_opsetid("", _OPERATORS), helper.make_opsetid(CONTRIBUTED, 1)]
        model = helper.make_model(graph, opset_imports=operators, ir_version=_FORMAT)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

        def run(inputs: dict[str, npt.NDArray[Any]]) -> Single:
            result: Single = session.run(None, inputs)[0]
            return result

        return run


class FromSecondUse(Generic[Made]):
    """What is made when it is asked for a second time, and None the first: to make it takes longer than to do without.

    Importing ONNX Runtime takes 0.2 s, as long as eighty drops in PyTorch one by one. Threads may share it.
    """

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make = make
        self._used = False
        self._made: Made | None = None
        self._mine = threading.Lock()

    def __call__(self) -> Made | None:
        """What was made; None the first time."""
        if self._made is None:
            with self._mine:
                if not self._used:
                    self._used = True
                elif self._made is None:
                    self._made = self._make()
        return self._made
