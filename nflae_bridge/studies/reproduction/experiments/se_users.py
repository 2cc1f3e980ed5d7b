"""Fig. 6: spectral efficiency against the number of users."""

from dataclasses import replace

from nflae_bridge.studies.reproduction.setting import PUBLISHED
from nflae_bridge.studies.reproduction.sweep import sweep

EXPERIMENT = sweep(
    "se-users",
    "Spectral efficiency against the number of users",
    "Fig. 6",
    "users K",
    range(5, 11),
    lambda users: replace(PUBLISHED, users=int(users)),
)
