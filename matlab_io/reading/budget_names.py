"""Relate names of variables to quantities of the link budget and their units."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Ambiguous", "Meaning", "meaning_of"]


@dataclass(frozen=True)
class Meaning:
    """Hold the quantity and the unit that a name states.

    Parameters
    ----------
    quantity : str
        ``"power"``, ``"noise_power"``, ``"snr_db"``, ``"noise_figure_db"``, ``"bandwidth"``, ``"temperature"``,
        ``"alpha_c"`` or ``"min_rate"``.
    unit : str
        ``"W"``, ``"mW"``, ``"dBW"``, ``"dBm"``, ``"sqrt(W)"`` for a standard deviation, ``"Hz"``, ``"kHz"``, ``"MHz"``,
        ``"GHz"``, ``"K"``, ``"dB"``, ``"ratio"`` for what becomes dB, or ``""``.
    is_sure : bool
        False where the name states no unit, so that values unusual for W are ambiguous.
    """

    quantity: str
    unit: str
    is_sure: bool = True


@dataclass(frozen=True)
class Ambiguous:
    """Hold the reason why a name states no usable quantity.

    Parameters
    ----------
    quantity : str
        Quantity, ``"power"`` or ``"noise_power"``, that an option states instead.
    reason : str
        End of the sentence "<name> may be ...".
    readings : tuple of tuple of str
        Each reading of a number as (option to pass, form of its value, words): the forms are ``"x"`` for the number
        itself, ``"10lgx"`` and ``"20lgx"`` for its decibels.
    """

    quantity: str
    reason: str
    readings: tuple[tuple[str, str, str], ...] = ()


_POWERS = (
    *("power", "pt", "ptx", "txpower", "powertx", "transmitpower", "ptotal", "ptot", "totalpower", "pmax", "maxpower"),
    *("powerbudget", "pbs", "bspower", "ptmax", "ptxmax", "pbudget", "txpow", "transmitterpower", "totaltxpower"),
)
_NOISES = (
    *("noisepower", "noisevar", "noisevariance", "nvar", "npower", "noisepow", "powernoise", "sigma2", "sigmasq"),
    *("sigmasquared", "sigman2", "sigma2n", "sigma2noise", "noisesigma2", "varn", "varnoise", "pnoise", "noiseest"),
    *("noisefloor", "noiselevel", "n0", "awgnvar", "sigmansq", "noisepwr"),
)
_SUFFIXES = {"w": "W", "watt": "W", "watts": "W", "mw": "mW", "dbw": "dBW", "dbm": "dBm"}

_SNR = (("--snr-db", "x", "in dB"), ("--snr-db", "10lgx", "linear"))
_DB = "a level in dB over an unnamed reference"


def _named_levels() -> dict[str, Meaning | Ambiguous]:
    found: dict[str, Meaning | Ambiguous] = {}
    for quantity, option, bases in (("power", "--power", _POWERS), ("noise_power", "--noise", _NOISES)):
        readings = ((f"{option}-dbw", "x", "over 1 W"), (f"{option}-dbm", "x", "over 1 mW"))
        for base in bases:
            found[base] = Meaning(quantity, "W", base == "power" or (quantity == "noise_power" and base != "n0"))
            found |= {base + suffix: Meaning(quantity, unit) for suffix, unit in _SUFFIXES.items()}
            found[base + "db"] = Ambiguous(quantity, _DB, readings)
    for suffix in ("dbm", "dbw", "mw"):
        found["p" + suffix] = Meaning("power", _SUFFIXES[suffix])
        found["noise" + suffix] = Meaning("noise_power", _SUFFIXES[suffix])
    found["noisew"] = Meaning("noise_power", "W")
    return found


_DENSITY = Ambiguous("noise_power", "a density per Hz")
# Names in lower case without underscores.
_MEANINGS: dict[str, Meaning | Ambiguous] = _named_levels() | {
    "alphac": Meaning("alpha_c", ""),
    "minrate": Meaning("min_rate", ""),
    "rmin": Meaning("min_rate", ""),
    **{name: Meaning("snr_db", "dB") for name in ("snrdb", "snrindb", "snrdecibel")},
    "snrlinear": Meaning("snr_db", "ratio"),
    "snrlin": Meaning("snr_db", "ratio"),
    "snr": Ambiguous("noise_power", "linear or in dB", _SNR),
    **{
        name + unit: Ambiguous("noise_power", "an energy per bit or symbol over the noise, which depends on the code")
        for name in ("ebn0", "ebno", "esn0", "esno")
        for unit in ("", "db", "lin", "linear")
    },
    **{name: Meaning("noise_power", "sqrt(W)") for name in ("noisestd", "stdnoise", "noisesigma", "sigmanoise")},
    **{
        name: Ambiguous(
            "noise_power",
            "a standard deviation or a variance",
            (("--noise-dbw", "20lgx", "a standard deviation"), ("--noise-dbw", "10lgx", "a variance")),
        )
        for name in ("sigma", "sigman")
    },
    "noise": Ambiguous(
        "noise_power",
        "a power in W, in dBW or in dBm",
        (("--noise-dbw", "10lgx", "in W"), ("--noise-dbw", "x", "in dBW"), ("--noise-dbm", "x", "in dBm")),
    ),
    **dict.fromkeys(("noisedensity", "noisepsd", "n0dbmhz", "n0dbmperhz", "noisedensitydbm"), _DENSITY),
    **dict.fromkeys(("noisepsddbm", "noisedensitydbmhz", "noisepsddbmhz", "noisefloordbmhz"), _DENSITY),
    "p": Ambiguous(
        "power",
        "a power in W or in dBm, or no power at all",
        (("--power-dbw", "10lgx", "in W"), ("--power-dbm", "x", "in dBm")),
    ),
    **{name: Ambiguous("power", "a power with the gain of the array in it") for name in ("eirp", "eirpdbm", "eirpdbw")},
    **{name: Meaning("noise_figure_db", "dB") for name in ("noisefigure", "noisefiguredb", "nfdb", "nfigdb")},
    **{name: Meaning("bandwidth", "Hz", False) for name in ("bandwidth", "bw", "channelbandwidth", "systembandwidth")},
    **{
        base + suffix: Meaning("bandwidth", unit)
        for base in ("bandwidth", "bw", "channelbandwidth", "systembandwidth")
        for suffix, unit in {"hz": "Hz", "khz": "kHz", "mhz": "MHz", "ghz": "GHz"}.items()
    },
    "temperature": Meaning("temperature", "K", False),
    "temperaturek": Meaning("temperature", "K"),
    "noisetemperature": Meaning("temperature", "K"),
}


def meaning_of(field: str) -> Meaning | Ambiguous | None:
    """Return the meaning of a name, in upper or lower case and with or without underscores.

    Parameters
    ----------
    field : str
        Name of a variable, or of a field of a struct.

    Returns
    -------
    Meaning, Ambiguous or None
        None for a name that states nothing of the link budget. ``NF`` is a noise figure, ``Nf`` and ``nf`` are not:
        they often are numbers of subcarriers.
    """
    if field == "NF":
        return Meaning("noise_figure_db", "dB")
    return _MEANINGS.get(field.lower().replace("_", ""))
