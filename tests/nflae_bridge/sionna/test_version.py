"""Without Sionna, or with its 1.x, one line says what is supported and what to type."""

from __future__ import annotations

import sys
from importlib import metadata

import pytest

import nflae_bridge.sionna
from matlab_io.errors import NflaeError
from matlab_io.extras import MissingPackageError, install_command


def test_without_sionna_the_command_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sionna", None)
    with pytest.raises(MissingPackageError) as raised:
        _ = nflae_bridge.sionna.PrecodedChannel
    assert str(raised.value).startswith("nflae_bridge.sionna needs the extra 'sionna' (sionna is not installed")
    assert str(raised.value).endswith(install_command("sionna"))


@pytest.mark.parametrize(
    ("versions", "refused"),
    [
        ({"sionna": "1.2.1"}, "sionna 1.2.1"),
        ({"sionna-no-rt": "1.2.1", "sionna": "0.19.2"}, "sionna-no-rt 1.2.1, sionna 0.19.2"),
        ({"sionna": "2.2.0"}, ""),
        ({"sionna-no-rt": "2.1.0"}, ""),
        ({}, ""),  # from a folder of its sources
    ],
)
def test_versions(versions: dict[str, str], refused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(nflae_bridge.sionna, "require", lambda package, feature: None)
    monkeypatch.setitem(sys.modules, "nflae_bridge.sionna.precoded_channel", type(sys)("stand_in"))
    sys.modules["nflae_bridge.sionna.precoded_channel"].PrecodedChannel = "the block"  # type: ignore[attr-defined]
    if not refused:
        assert nflae_bridge.sionna.PrecodedChannel == "the block"  # type: ignore[comparison-overlap]
        return
    with pytest.raises(NflaeError) as raised:
        _ = nflae_bridge.sionna.PrecodedChannel
    expected = f"nflae_bridge.sionna needs Sionna PHY 2.x, on PyTorch ({refused} is installed): pip uninstall "
    assert str(raised.value).startswith(expected)
    assert str(raised.value).endswith(install_command("sionna"))
    assert "\n" not in str(raised.value)


def test_other_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'RZFPrecodedChannel'"):
        _ = nflae_bridge.sionna.RZFPrecodedChannel  # type: ignore[attr-defined]
