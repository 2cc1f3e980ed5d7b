"""Record scenario folders of DeepMIMO 2 and 3 with made-up rays, and the channels that DeepMIMO 3 computes of them.

python record_deepmimo3.py FOLDER        # with DeepMIMO 3.2.9 installed, in an environment of its own
"""

from __future__ import annotations

import sys
from pathlib import Path

import DeepMIMOv3
import numpy as np
import scipy.io

COUNTS = {1: (4, 3, 0, 1, 2, 4, 2), 2: (2, 1, 3, 1, 0, 2, 1)}  # rays per base station and position
GRID = np.array([[1, 1, 7]])  # one row of seven positions
PARAMETERS = {"carrier_freq": 28e9, "transmit_power": 10.0, "num_BS": 2, "user_grids": GRID, "version": 3}


def rays(rng: np.random.Generator, count: int) -> np.ndarray:
    """Phase, delay, power, DoA azimuth and zenith, DoD azimuth and zenith, line of sight, (8, count)."""
    low = np.array([-180, 5e-8, -120, -180, 0, -180, 0, 0])[:, None]
    high = np.array([180, 1e-6, -80, 180, 180, 180, 180, 1])[:, None]
    return low + (high - low) * rng.random((8, count))


def cell(tables: list[np.ndarray]) -> np.ndarray:
    """A MATLAB cell of structs with a field p."""
    content = np.empty((1, len(tables)), object)
    for index, table in enumerate(tables):
        content[0, index] = {"p": table}
    return content


def vector(tables: list[np.ndarray], rows: tuple[int, int, int]) -> np.ndarray:
    """Number of positions; then number of the position, count of rays, and number and three properties of each ray."""
    values = [float(len(tables))]
    for position, table in enumerate(tables, 1):
        values += [float(position), float(table.shape[1])]
        for ray in range(table.shape[1]):
            values += [float(ray + 1), *(table[row, ray] for row in rows)]
    return np.array([values])


def write(folder: Path) -> None:
    rng = np.random.default_rng(12)
    places = rng.uniform(-50, 50, (7, 5))
    new, old = folder / "places_v3", folder / "places_v2"
    new.mkdir()
    old.mkdir()
    scipy.io.savemat(new / "params.mat", PARAMETERS | {"doppler_available": 0, "dual_polar_available": 0})
    scipy.io.savemat(old / "places_v2.params.mat", PARAMETERS)
    stations = np.column_stack([np.arange(1.0, 3), np.zeros((2, 2)), np.full(2, 10.0)])
    scipy.io.savemat(old / "places_v2.TX_Loc.mat", {"TX_Loc_array_full": stations})
    scipy.io.savemat(old / "places_v2.Loc.mat", {"Loc_array_full": np.column_stack([np.arange(1, 8), places[:, :3]])})
    for station, counts in COUNTS.items():
        tables = [rays(rng, count) for count in counts]
        for first, last in ((0, 4), (4, 7)):
            content = {"channels": cell(tables[first:last]), "rx_locs": places[first:last], "tx_loc": stations[:1, 1:]}
            scipy.io.savemat(new / f"BS{station}_UE_{first}-{last}.mat", content)
        stem = old / f"places_v2.{station}"
        scipy.io.savemat(f"{stem}.DoD.mat", {"DoD_array": vector(tables, (5, 6, 7))})
        scipy.io.savemat(f"{stem}.DoA.mat", {"DoA_array": vector(tables, (3, 4, 2))})
        scipy.io.savemat(f"{stem}.CIR.mat", {"CIR_array": vector(tables, (0, 1, 2))})
        scipy.io.savemat(f"{stem}.LoS.mat", {"LOS_array": np.array([[7.0, *[1.0] * 7]])})
        scipy.io.savemat(f"{stem}.PL.mat", {"PL_array_full": np.ones((7, 2))})


def compute(folder: Path, scenario: str) -> dict[str, np.ndarray]:
    """Channels of DeepMIMO 3 for eight antennas along y, subcarriers 0, 16, 32, 48 of 64 in 50 MHz."""
    parameters = DeepMIMOv3.default_params() | {
        "dataset_folder": str(folder), "scenario": scenario, "num_paths": 10, "active_BS": np.array([1, 2]),
        "user_rows": np.array([0]), "enable_BS2BS": 0,
    }  # fmt: skip
    parameters["bs_antenna"] |= {"shape": np.array([8, 1])}
    parameters["ue_antenna"] |= {"shape": np.array([1, 1])}
    parameters["OFDM"] |= {"subcarriers": 64, "selected_subcarriers": np.arange(0, 64, 16), "bandwidth": 0.05}
    dataset = DeepMIMOv3.generate_data(parameters)
    # DeepMIMO 3 reads the files of a base station in the order in which the folder lists them.
    places = scipy.io.loadmat(folder / "places_v2" / "places_v2.Loc.mat")["Loc_array_full"][:, 1:]
    answers = {}
    for index in range(2):
        users = dataset[index]["user"]
        order = [int(np.abs(users["location"] - place).sum(1).argmin()) for place in places]
        answers[f"{scenario}_{index + 1}"] = users["channel"][order]
    return answers


if __name__ == "__main__":
    into = Path(sys.argv[1])
    write(into)
    answers = compute(into, "places_v3") | compute(into, "places_v2")
    np.savez_compressed(into / "deepmimo3_channels.npz", **answers)
    print({name: value.shape for name, value in answers.items()})
