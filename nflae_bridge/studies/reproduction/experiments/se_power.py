"""Fig. 9: spectral efficiency against the power budget."""

from dataclasses import replace

from nflae_bridge.studies.reproduction.setting import PUBLISHED
from nflae_bridge.studies.reproduction.sweep import sweep

EXPERIMENT = sweep(
    "se-power",
    "Spectral efficiency against the power budget, K = 10",
    "Fig. 9",
    "P [dBW]",
    [-10.0, -5.0, 0.0, 5.0, 10.0],
    lambda power_dbw: replace(PUBLISHED, power_dbw=power_dbw),
)
