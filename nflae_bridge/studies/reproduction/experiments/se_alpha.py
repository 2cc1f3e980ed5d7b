"""Fig. 7: spectral efficiency against the near-field users' share of the power."""

from dataclasses import replace

from nflae_bridge.studies.reproduction.setting import PUBLISHED
from nflae_bridge.studies.reproduction.sweep import sweep

EXPERIMENT = sweep(
    "se-alpha",
    "Spectral efficiency against the near-field users' share of the power, K = 10",
    "Fig. 7",
    "alpha_c",
    [tenths / 10 for tenths in range(1, 10)],
    lambda alpha_c: replace(PUBLISHED, alpha_c=alpha_c),
)
