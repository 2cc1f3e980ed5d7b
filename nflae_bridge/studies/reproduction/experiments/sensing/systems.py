"""Reproduce WMLM, M2BeamLLM, BP-LLM, LLM4SG and LVM4CSI as configurations of one network, each with its controls."""

from __future__ import annotations

from nflae_bridge.beams.network import NetworkSettings
from nflae_bridge.studies.reproduction.experiments.sensing.comparison import System, experiment_of

_ALL = ("power", "position", "picture", "radar", "points")
_SENSORS = ("position", "picture", "radar", "points")
_LONG, _SHORT, _ALIGNED = 4, 3, 1  # epochs in proportion; the steps follow from the compute budget


def _network(
    inputs: tuple[str, ...], epochs: int, mask: int = 0, align: int = 0, anchor: str = "power", dropout: float = 0.2
) -> NetworkSettings:
    """Return settings without persistence, which is no part of the published systems."""
    return NetworkSettings(inputs, epochs, mask, align, anchor, dropout, persistence=False)


WMLM = experiment_of(
    "wmlm",
    "Beams after contrastive alignment with the wireless signal (WMLM)",
    "arXiv:2511.21707, at another size",
    System(
        {
            "aligned": _network(_ALL, _SHORT, align=_ALIGNED, anchor="power"),
            "not aligned": _network(_ALL, _LONG),
            "hidden values first": _network(_ALL, _SHORT, mask=_ALIGNED),
            "powers alone": _network(("power",), _LONG),
        },
        (
            ("aligned", "not aligned"),
            ("hidden values first", "not aligned"),
            ("aligned", "powers alone"),
        ),
    ),
    "All inputs are aligned with the beam powers by the contrastive loss in a quarter of the training steps; the "
    "network without alignment trains its task in these steps as well.",
)

M2BEAMLLM = experiment_of(
    "m2beamllm",
    "Beams from camera, radar, LiDAR and satellite positions (M2BeamLLM)",
    "arXiv:2506.14532, at another size",
    System(
        {
            "four sensors, aligned": _network(_SENSORS, _SHORT, align=_ALIGNED, anchor="picture"),
            "four sensors": _network(_SENSORS, _LONG),
            "positions alone": _network(("position",), _LONG),
            "pictures alone": _network(("picture",), _LONG),
        },
        (
            ("four sensors, aligned", "four sensors"),
            ("four sensors, aligned", "positions alone"),
            ("four sensors, aligned", "pictures alone"),
        ),
        rivals=("repeat", "position-map", "knn", "ridge"),
    ),
    "The networks receive no beam powers; `repeat`, `knn` and `ridge` do. `position-map` has the positions.",
)

BP_LLM = experiment_of(
    "bp-llm",
    "Beams from past beams and a prompt (BP-LLM)",
    "arXiv:2408.08707, at another size",
    System(
        {
            "beams and prompt": _network(("beam", "prompt"), _LONG, dropout=0.0),
            "beams": _network(("beam",), _LONG),
            "powers": _network(("power",), _LONG),
        },
        (("beams and prompt", "beams"), ("beams and prompt", "powers")),
    ),
    "The prompt is a summary of the past beams: first, last, least and largest, mean, slope and deviation; as numbers, "
    "not as words. `powers` receives all 64 powers of each past sample.",
)

LLM4SG = experiment_of(
    "llm4sg",
    "Directions of scatterers from LiDAR points (LLM4SG)",
    "a published idea, at another size",
    System(
        {
            "points and positions": _network(("points", "position"), _LONG),
            "points": _network(("points",), _LONG),
            "positions": _network(("position",), _LONG),
        },
        (("points and positions", "positions"), ("points", "positions")),
        rivals=("repeat", "position-map", "knn"),
        scatterers=True,
    ),
    "To be found is the strongest beam farther than two from the strongest of all, which points to a scatterer. "
    "`position-map` has the positions of the past; `repeat` and `knn` have the past powers of these beams.",
)

LVM4CSI = experiment_of(
    "lvm4csi",
    "Beams from CSI as a picture by a vision model without training (LVM4CSI)",
    "a published idea, at another size",
    System(
        {
            "vision model": _network(("csi-vision",), _LONG),
            "convolutions": _network(("csi-picture",), _LONG),
            "perceptron": _network(("csi",), _LONG),
            "powers": _network(("power",), _LONG),
        },
        (("vision model", "convolutions"), ("vision model", "perceptron"), ("vision model", "powers")),
        vision=True,
    ),
    "The picture holds real part, imaginary part and magnitude of the products of all pairs of antennas. The vision "
    "model is that of the folder given by `--backbone` if it takes pictures; else a vision transformer of three blocks "
    "with random weights, which tests the procedure, not what pretraining on photographs brings. `convolutions` are "
    "trained on the same picture, `perceptron` on the CSI itself.",
)
