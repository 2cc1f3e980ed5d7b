"""Compute features of pictures by a vision model in a local folder, which is not trained."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from matlab_io.errors import NflaeError

__all__ = ["vision_features"]

_MEAN, _DEVIATION = 0.5, 0.25  # of pixels, about those of the pictures that vision models are trained on
_AT_ONCE = 64


@torch.no_grad()
def vision_features(source: str, pictures: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Compute the mean of the last hidden states over the patches of each picture.

    Parameters
    ----------
    source
        Local folder of a vision model of `transformers`, such as ViT, DINOv2 or ConvNeXt.
    pictures
        float32 (pictures, 3, height, width), from 0 to 1; NaN where absent.

    Returns
    -------
    numpy.ndarray
        float32 (pictures, features), NaN where absent.

    Raises
    ------
    NflaeError
        If the folder holds no vision model.
    """
    model, size = _load(source)
    parts = []
    for part in torch.split(torch.from_numpy(pictures), _AT_ONCE):
        picture = functional.interpolate(part, size, mode="bilinear", align_corners=False)
        states = model(pixel_values=(picture - _MEAN) / _DEVIATION).last_hidden_state
        parts.append(states.flatten(2).mean(-1) if states.ndim == 4 else states.mean(1))
    features = torch.cat(parts).numpy()
    features[~np.isfinite(pictures).reshape(len(pictures), -1).all(-1)] = np.nan
    return np.asarray(features, np.float32)


@lru_cache(maxsize=1)
def _load(source: str) -> tuple[Any, tuple[int, int]]:
    """Load a model, of which nothing is executed but what `transformers` holds, and the size of its pictures."""
    import transformers
    from safetensors import SafetensorError

    problem = f"vision model {source!r} cannot be loaded"
    remedy = "give a local folder with its config.json and model.safetensors, e.g. of ViT or DINOv2"
    if not Path(source).is_dir():
        raise NflaeError(f"{problem} (no such folder); {remedy}")
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # parts of the model that are not used may be missing
    try:
        model = transformers.AutoModel.from_pretrained(
            source, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise NflaeError(f"{problem} ({str(error).strip().splitlines()[0]}); {remedy}") from error
    finally:
        transformers.utils.logging.set_verbosity(level)
    size = getattr(model.config, "image_size", None)
    if size is None:
        raise NflaeError(f"{problem} (it is of type {model.config.model_type}, without pictures); {remedy}")
    return model.eval(), (size, size) if isinstance(size, int) else tuple(size)
