"""Arguments that would have no effect beside the others are refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nflae_bridge
from matlab_io.errors import NflaeError
from tests.channel_files import random_channels

COVARIANCE = np.eye(16)


@pytest.mark.parametrize(
    ("function", "arguments", "told"),
    [
        ("predict", {"method": "ar", "model": "tiny"}, "model 'tiny' is of methods auto and nflae; leave it out"),
        ("estimate", {"method": "ls", "covariance": COVARIANCE}, "a covariance is for methods auto and lmmse: leave"),
        ("estimate", {"method": "nflae", "covariance": COVARIANCE}, "a covariance is for methods auto and lmmse"),
        ("estimate", {"method": "omp", "model": "tiny"}, "model 'tiny' is for methods auto and nflae, orthogonal"),
        ("estimate", {"geometry": "none", "model": "tiny"}, "model 'tiny' is for methods auto and nflae, orthogonal"),
        (
            "estimate",
            {"pilots": np.eye(32, 16), "noise_variance": 1.0, "model": "tiny"},
            "model 'tiny' is for methods auto and nflae, orthogonal pilots and a known geometry; leave it out",
        ),
        ("feedback", {"bits": 64, "codec": "polar", "predictor": "hold"}, "predictor='hold' is for codecs 'rest' and"),
    ],
)
def test_refused_by_name(function: str, arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(NflaeError, match=told):
        getattr(nflae_bridge, function)(random_channels(drops=8, users=2, antennas=16), **arguments)
