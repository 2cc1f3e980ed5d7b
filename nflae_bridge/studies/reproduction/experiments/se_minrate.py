"""Fig. 8: spectral efficiency against the rate every user must get."""

from dataclasses import replace

from nflae_bridge.studies.reproduction.setting import PUBLISHED
from nflae_bridge.studies.reproduction.sweep import sweep

EXPERIMENT = sweep(
    "se-minrate",
    "Spectral efficiency against the rate every user must get, K = 10",
    "Fig. 8",
    "R_min [bps/Hz]",
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
    lambda min_rate: replace(PUBLISHED, min_rate=min_rate),
)
