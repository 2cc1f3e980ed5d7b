"""Records what DeepMIMO and quadriga-lib produce themselves, for tests that run without them.

    python record.py FOLDER        # with DeepMIMO 4.0.5 and quadriga-lib 0.12.2 installed, in an environment of its own

DeepMIMO's package asks for an older numpy than ours, so it can't live in the test environment. What is here comes
from DeepMIMO's own scenario writer and channel generator and from quadriga-lib's own spherical waves and frequency
responses; the rays are made up.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

CARRIER = 28e9


def deepmimo_scenario(folder: Path) -> None:
    """A scenario folder with two base stations, seven places and up to four rays, and DeepMIMO's channels from it."""
    import deepmimo as dm
    from deepmimo.converters.matlab_rt.matrices import MatlabRTMatrixSet
    from deepmimo.converters.matlab_rt.writer import write_scenario_folder

    rng = np.random.default_rng(11)
    counts = (4, 3, 0, 1, 2, 4, 2)  # no ray reaches the third place
    shape = (len(counts), max(counts))
    absent = np.arange(shape[1]) >= np.array(counts)[:, None]

    def rays(low: float, high: float) -> np.ndarray:
        return np.where(absent, np.nan, rng.uniform(low, high, shape))

    sets = []
    for station in range(2):
        matrices = {
            "power": rays(-120, -80),
            "phase": rays(-180, 180),
            "delay": rays(5e-8, 1e-6),
            "aoa_az": rays(-180, 180),
            "aoa_el": rays(0, 180),
            "aod_az": rays(-180, 180),
            "aod_el": rays(0, 180),
            "inter": np.where(absent, np.nan, 1.0),
            "inter_pos": np.zeros((*shape, 1, 3)),
            "rx_pos": rng.uniform(-50, 50, (len(counts), 3)),
            "tx_pos": rng.uniform(-50, 50, (1, 3)),
        }
        sets.append(MatlabRTMatrixSet(station + 1, station, matrices, counts))
    common = {"is_tx": False, "is_rx": False, "num_ant": 1, "dual_pol": False, "ant_rel_positions": [[0, 0, 0]],
              "array_orientation": [0, 0, 0]}  # fmt: skip
    params = {
        "version": "4.0.5",
        "rt_params": {"frequency": CARRIER, "raytracer_name": "none", "raytracer_version": "none"},
        "scene": {"num_scenes": 1, "n_objects": 0, "n_vertices": 0, "n_faces": 0, "n_triangular_faces": 0},
        "materials": {},
        "txrx_sets": {
            "txrx_set_0": common | {"name": "bs", "id": 0, "is_tx": True, "num_points": 2, "num_active_points": 2},
            "txrx_set_1": common | {"name": "ue", "id": 1, "is_rx": True, "num_points": 7, "num_active_points": 6},
        },
    }
    written = write_scenario_folder(
        scenario_root=folder, scenario_name="seven_places", params=params, matrix_sets=sets, overwrite=True
    )
    dm.config.set("scenarios_folder", str(folder.resolve()))
    dataset = dm.load("seven_places")
    wanted = dm.ChannelParameters(
        bs_antenna={"shape": np.array([8, 1]), "spacing": 0.5},
        ue_antenna={"shape": np.array([1, 1])},
        ofdm={"subcarriers": 64, "selected_subcarriers": np.arange(0, 64, 16), "bandwidth": 50e6},
    )
    answers = {f"channel_{station + 1}": dataset[station].compute_channels(wanted) for station in range(2)}
    np.savez_compressed(folder / "seven_places_channels.npz", **answers)
    print(written.scenario_path, {name: value.shape for name, value in answers.items()})


def quadriga_lib_paths(path: Path) -> None:
    """Path coefficients, delays and frequency responses of three users before eight antennas, spherical waves."""
    import quadriga_lib

    antenna = quadriga_lib.arrayant.generate("omni")
    spacing = 299_792_458.0 / CARRIER / 2
    offsets = (np.arange(8) - 3.5) * spacing
    array = {key: np.repeat(np.asarray(antenna[key]), 8, axis=2) if key.startswith("e_") else antenna[key]
             for key in antenna if key in ("e_theta_re", "e_theta_im", "e_phi_re", "e_phi_im",
                                           "azimuth_grid", "elevation_grid")}  # fmt: skip
    array["element_pos"] = np.stack([np.zeros(8), offsets, np.zeros(8)])
    array["coupling_re"], array["coupling_im"] = np.eye(8), np.zeros((8, 8))
    users = np.array([[5.0, 1.0, 0.5], [3.0, -2.0, 0.0], [12.0, 4.0, -1.0]])
    scatterer = np.array([4.0, 3.0, 1.0])
    found: dict[str, list[np.ndarray]] = {"coeff": [], "delay": [], "response": []}
    for user in users:
        bounces = np.stack([user / 2, scatterer], axis=1)  # a point on the direct ray stands for it
        length = np.array([np.linalg.norm(user), np.linalg.norm(scatterer) + np.linalg.norm(user - scatterer)])
        gain = (299_792_458.0 / CARRIER / 4 / np.pi / length) ** 2 * np.array([1.0, 0.1])
        polarisation = np.repeat([[1.0], [0], [0], [0], [0], [0], [-1.0], [0]], 2, axis=1)
        re, im, delay = quadriga_lib.arrayant.get_channels_spherical(
            array, antenna, bounces, bounces, gain, length, polarisation, np.zeros(3), np.zeros(3), user, np.zeros(3),
            CARRIER, True,
        )[:3]  # fmt: skip
        coeff = np.asarray(re) + 1j * np.asarray(im)
        response = quadriga_lib.channel.baseband_freq_response(
            coeff=[coeff], delay=[delay], bandwidth=100e6, pilot_grid=np.arange(-2, 3) / 5,
            remove_delay_phase=False,
        )  # fmt: skip
        found["coeff"].append(coeff)
        found["delay"].append(np.asarray(delay))
        found["response"].append(np.asarray(response)[..., 0])
    stacked = {name: np.stack(values) for name, values in found.items()}
    np.savez_compressed(path, users=users, offsets=offsets, carrier=CARRIER, **stacked)
    print(path, {name: value.shape for name, value in stacked.items()})


if __name__ == "__main__":
    into = Path(sys.argv[1])
    deepmimo_scenario(into)
    quadriga_lib_paths(into / "quadriga_lib_paths.npz")
