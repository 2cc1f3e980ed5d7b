"""List the values printed in the papers' tables, for comparison."""

from __future__ import annotations

# Table I: accuracy by CSI SNR, dB.
ACCURACY = {
    "paper": {0: 0.9478, 5: 0.9852, 10: 0.9904, 15: 0.9909, 20: 0.9918},
    "cnn": {0: 0.8030, 5: 0.8221, 10: 0.8281, 15: 0.8289, 20: 0.8291},
    "transformer": {0: 0.9214, 5: 0.9436, 10: 0.9579, 15: 0.9631, 20: 0.9732},
}

# Table II: (trained, total) parameters in millions; training and inference time of a batch of 100 on an RTX 4090, ms.
PARAMETERS = {"paper": (5.95, 129.56), "transformer": (13.15, 13.15), "cnn": (0.92, 0.92)}
MILLISECONDS = {"paper": (59.92, 52.56), "transformer": (70.91, 62.80), "cnn": (13.81, 11.71)}

# Table III: gamma_2, (spectral efficiency in bps/Hz, accuracy), K = 8, averaged over CSI SNR from 5 to 25 dB.
GAMMA2 = {
    0.2: (27.877, 0.961),
    0.5: (27.860, 0.969),
    1.0: (27.876, 0.982),
    2.0: (27.881, 0.989),
    5.0: (27.876, 0.992),
    10.0: (27.875, 0.991),
    15.0: (27.607, 0.992),
    20.0: (27.657, 0.992),
    30.0: (27.462, 0.991),
}
