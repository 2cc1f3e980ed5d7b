"""Represent received pilots by beams after the canonical step, with a sparse fit: common input of gains per beam."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.csi.beams import ArrayGeometry, canonical_phases, to_antennas, to_beams
from simulator.csi.estimation.matching_pursuit import dft_dictionary, matching_pursuit
from simulator.csi.estimation.pilots import Observation

_OVERSAMPLING = 8
_FALSE_ALARM = 0.2
_MOST_ATOMS = 16


@dataclass(frozen=True)
class CanonicalBeams:
    """Hold received beams in units of the noise amplitude, and their fit by few plane waves.

    Attributes
    ----------
    geometry : ArrayGeometry
        Arrangement of the antennas, not ``none``.
    phases : Tensor
        Factors of the canonical step, complex64 (series, 1, antennas).
    scale : Tensor
        Noise amplitude, float32 (series, 1, 1).
    received : Tensor
        Beams b, complex64 (series, snapshots, beams), with unit noise variance.
    fit : Tensor
        Beams of the sum of the atoms that `matching_pursuit` selects, complex64 (series, snapshots, beams).
    basis : Tensor
        Orthonormal basis of the selected atoms in beams, complex64 (series, steps, beams): fit = projection of b.
    atoms : Tensor
        Number of selected atoms, int64 (series,).
    """

    geometry: ArrayGeometry
    phases: Tensor
    scale: Tensor
    received: Tensor
    fit: Tensor
    basis: Tensor
    atoms: Tensor

    def projected(self, beams: Tensor) -> Tensor:
        """Project beams onto the selected atoms.

        Parameters
        ----------
        beams : Tensor
            complex64 (series, snapshots, beams).

        Returns
        -------
        Tensor
            complex64 (series, snapshots, beams).
        """
        return (beams @ self.basis.mH) @ self.basis

    def beams_of(self, channels: Tensor) -> Tensor:
        """Transform channels as the received pilots were.

        Parameters
        ----------
        channels : Tensor
            complex64 (series, snapshots, antennas).

        Returns
        -------
        Tensor
            Beams in units of the noise amplitude, complex64 (series, snapshots, beams).
        """
        return to_beams(channels / self.scale * self.phases, self.geometry)

    def channels_of(self, beams: Tensor) -> Tensor:
        """Invert `beams_of`.

        Parameters
        ----------
        beams : Tensor
            complex64 (series, snapshots, beams).

        Returns
        -------
        Tensor
            Channels, complex64 (series, snapshots, antennas).
        """
        return to_antennas(beams, self.geometry) * self.phases.conj() * self.scale


def canonical_beams(observation: Observation, geometry: ArrayGeometry) -> CanonicalBeams:
    """Transform received orthogonal pilots to beams after the canonical step, and fit them.

    Parameters
    ----------
    observation : Observation
        Received orthogonal pilots.
    geometry : ArrayGeometry
        Arrangement of the antennas, not ``none``.

    Returns
    -------
    CanonicalBeams
        The beams.
    """
    scaled, scale = observation.normalised()
    phases = canonical_phases(scaled.received, geometry, scaled.noise_variance).unsqueeze(1)
    turned = Observation(scaled.received * phases, scaled.noise_variance)
    dictionary = dft_dictionary(geometry.grid(observation.antennas), _OVERSAMPLING)
    fit = matching_pursuit(turned, dictionary, _MOST_ATOMS, _FALSE_ALARM)
    received = to_beams(turned.received, geometry)
    basis = to_beams(fit.basis, geometry) if fit.basis.shape[1] else torch.zeros_like(received[:, :0])
    return CanonicalBeams(geometry, phases, scale, received, to_beams(fit.channels, geometry), basis, fit.atoms)
