"""Reproduce every published table and figure, and what goes beyond them, by name: ``nflae reproduce NAME``.

An experiment is an `experiment.Experiment` of a module in `experiments`; this module holds only what the command line
needs before it imports any of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nflae_bridge.studies.reproduction.experiment import Experiment

# Name and content, in the order of the papers, then what goes beyond them.
EXPERIMENTS = {
    "enfr": "near-field regions on the x-z plane and along the ground (Fig. 2)",
    "gain": "the far-field beam's gain against distance (Fig. 4)",
    "convergence": "training and validation loss by epoch (Fig. 5)",
    "se-users": "spectral efficiency for 5 to 10 users (Fig. 6)",
    "se-alpha": "spectral efficiency for alpha_c from 0.1 to 0.9 (Fig. 7)",
    "se-minrate": "spectral efficiency for R_min from 0 to 1 bps/Hz (Fig. 8)",
    "se-power": "spectral efficiency for P from -10 to 10 dBW (Fig. 9)",
    "accuracy": "near/far classification against the CSI's SNR (Table I)",
    "cost": "parameters, training and inference time (Table II)",
    "gamma2": "spectral efficiency and accuracy for gamma_2 from 0.2 to 30 (Table III)",
    "robust": "spectral efficiency when the CSI is noisy",
    "transfer": "one checkpoint in settings it has not seen, against the raw encoder retrained",
    "mobility": "labels and spectral efficiency along a drone's flight",
    "csi-prediction": "sum rate from predicted CSI, and against its age",
    "llm4cp": "channel prediction antenna by antenna on GPT-2 blocks",
    "multi-task": "one network for precoding, prediction and estimation",
    "csi-feedback": "learned CSI feedback against Type II and polar at equal bits",
    "prompt-feedback": "the same with the site's mean angular magnitude as a prompt",
    "lwm": "pretraining on masked space-frequency patches",
    "bert4mimo": "pretraining on masked snapshots",
    "wirelessgpt": "pretraining on masked patches, the last ones hidden",
    "embedding": "few labels from the embedding of nflae embed",
    "2dlam": "delay and Doppler shift of paths by GPT-2 blocks",
    "wmlm": "beams after contrastive alignment with the wireless signal",
    "m2beamllm": "beams from camera, radar, LiDAR and satellite positions",
    "bp-llm": "beams from past beams and a prompt",
    "llm4sg": "directions of scatterers from LiDAR points",
    "lvm4csi": "beams from CSI as a picture by a vision model without training",
}
# Modules of experiments that are called otherwise.
_MODULES = {
    "robust": "beyond.robust",
    "transfer": "beyond.transfer",
    "mobility": "beyond.mobility",
    "csi-prediction": "csi.prediction",
    "llm4cp": "csi.llm4cp",
    "multi-task": "csi.multi_task",
    "csi-feedback": "csi.feedback",
    "prompt-feedback": "csi.feedback",
    "lwm": "csi.masked",
    "bert4mimo": "csi.masked",
    "wirelessgpt": "csi.masked",
    "embedding": "csi.embedding",
    "2dlam": "csi.delay_doppler",
    **dict.fromkeys(("wmlm", "m2beamllm", "bp-llm", "llm4sg", "lvm4csi"), "sensing.systems"),
}


def load_experiment(name: str) -> Experiment:
    """Import the experiment called ``name``.

    Parameters
    ----------
    name
        One of `EXPERIMENTS`; its module in `experiments` is called the same, that of the sweeps ``se-*``
        `experiments.spectral_efficiency`, and those beyond the papers are in `experiments.beyond`, `experiments.csi`
        and `experiments.sensing`.

    Returns
    -------
    Experiment
        The module's experiment of that name.
    """
    from nflae_bridge.studies.reproduction.experiment import Experiment

    module_name = "spectral_efficiency" if name.startswith("se-") else _MODULES.get(name, name)
    module = import_module(f"{__name__}.experiments.{module_name}")
    return next(found for found in vars(module).values() if isinstance(found, Experiment) and found.name == name)
