"""Name the arrays of a track and the sources of its figures; free of PyTorch, for clients."""

from __future__ import annotations

__all__ = ["BEAM_SOURCES", "CSI", "DETECTION", "GPS", "SOURCES", "TRACK_DTYPES", "source_names"]

CSI, GPS, DETECTION = 1, 2, 4
"""Bits of the sensors in a source."""
SOURCES = (
    *("prediction", "csi", "gps", "csi+gps"),
    *("detection", "csi+detection", "gps+detection", "csi+gps+detection"),
)
"""Sensors behind a figure of one step, by bits, counted from 1 in files. Beam powers count as CSI."""
BEAM_SOURCES = ("measured", "position", "repeated", "model")
"""Origins of beams; in files counted from 1."""
TRACK_DTYPES = {
    **dict.fromkeys(("x", "height", "position_std", "angle_deg", "angle_std_deg", "distance"), "float64"),
    **dict.fromkeys(("distance_resolved", "in_sight"), "bool"),
    **dict.fromkeys(("source", "angle_source", "distance_source", "beam", "beam_source"), "float64"),
    **dict.fromkeys(("next_beams", "next_beams_source"), "float64"),
}
"""Types of the arrays, by name; all are users x snapshots but ``next_beams``, 3 x users x ahead x snapshots."""


def source_names(powers: bool) -> dict[str, str]:
    """Return the names that the codes of sources count from 1, separated by commas.

    Parameters
    ----------
    powers
        Whether beam powers were measured instead of channels.

    Returns
    -------
    dict
        ``sources`` and ``beam_sources``.
    """
    names = [name.replace("csi", "powers") if powers else name for name in SOURCES]
    return {"sources": ",".join(names), "beam_sources": ",".join(BEAM_SOURCES)}
