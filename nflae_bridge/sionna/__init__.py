"""Precode in link-level and system-level simulations of Sionna PHY 2.x."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matlab_io.errors import NflaeError
from matlab_io.extras import install_command, require

if TYPE_CHECKING:
    from nflae_bridge.sionna.precoded_channel import PrecodedChannel

__all__ = ["PrecodedChannel"]

_FEATURE = "nflae_bridge.sionna"
_MAJOR = "2"


def __getattr__(name: str) -> Any:
    # Imported on first use: the module can be documented without Sionna.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _check_version()
    from nflae_bridge.sionna.precoded_channel import PrecodedChannel

    return PrecodedChannel


def _check_version() -> None:
    """Check that Sionna PHY 2.x is installed, without importing it: its 1.x imports TensorFlow."""
    from importlib import metadata

    require("sionna", _FEATURE)
    versions = {}
    for name in ("sionna-no-rt", "sionna"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if not versions or any(version.split(".")[0] == _MAJOR for version in versions.values()):
        return
    found = ", ".join(f"{name} {version}" for name, version in versions.items())
    remedy = f"pip uninstall {' '.join(versions)}; {install_command('sionna')}"
    raise NflaeError(f"{_FEATURE} needs Sionna PHY {_MAJOR}.x, on PyTorch ({found} is installed): {remedy}")
