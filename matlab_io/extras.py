"""Name the optional extra that installs a missing package, and the command that installs it.

The base install holds numpy, pyzmq, msgspec and click. All other packages belong to an extra of ``pyproject.toml``;
each but ``metrics`` and ``tables`` includes the engine.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from matlab_io.errors import NflaeError

DISTRIBUTION = "nflae-bridge"

_ENGINE = ("torch", "scipy", "h5py", "onnxruntime", "safetensors", "rich", "threadpoolctl")
_PLOT = (*_ENGINE, "matplotlib")
_TRAIN = (*_ENGINE, "onnx", "transformers")

# Import names of the packages that each extra installs, the smallest extra of a package first.
EXTRAS: dict[str, tuple[str, ...]] = {
    "engine": _ENGINE,
    "plot": _PLOT,
    "train": _TRAIN,
    "sionna": (*_ENGINE, "sionna"),
    "link": (*_PLOT, "sionna"),
    "tables": ("pandas", "xarray"),
    "reproduce": (*_PLOT, *_TRAIN, "pandas"),
    "metrics": ("prometheus_client",),
    "cluster": (*_ENGINE, "distributed", "dask"),
}

_SIONNA = "; for Python 3.11 or 3.12"
_REMARKS = {"link": _SIONNA, "sionna": _SIONNA}
_CPU_TORCH = "pip install torch --index-url https://download.pytorch.org/whl/cpu"


class MissingPackageError(NflaeError, ModuleNotFoundError):
    """Report a package of an extra that is not installed; the message holds the command to run."""


def require(package: str, feature: str) -> None:
    """Check that an optional package is installed, without importing it.

    Parameters
    ----------
    package : str
        Import name of the package, e.g. ``sionna``.
    feature : str
        Subject of the error message, e.g. ``source umi``.

    Raises
    ------
    MissingPackageError
        If the package is not installed.
    """
    if find_spec(package) is None:
        raise MissingPackageError(_message(package, feature, _smallest_extra(package)))


def require_extra(extra: str, feature: str) -> None:
    """Check that all packages of an extra are installed, before work that needs the last of them at its end.

    Parameters
    ----------
    extra : str
        Name of an extra, see `EXTRAS`.
    feature : str
        Subject of the error message, e.g. ``nflae train``.

    Raises
    ------
    MissingPackageError
        If a package is not installed.
    """
    for package in EXTRAS[extra]:
        if find_spec(package) is None:
            raise MissingPackageError(_message(package, feature, extra))


def explain_import(error: ModuleNotFoundError, feature: str) -> ModuleNotFoundError:
    """Convert a failed import of an optional package into an error that holds the command to run.

    Parameters
    ----------
    error : ModuleNotFoundError
        The failed import.
    feature : str
        Subject of the error message, e.g. ``nflae precode``.

    Returns
    -------
    ModuleNotFoundError
        A `MissingPackageError` for a package of `EXTRAS`, else ``error`` itself.
    """
    package = (error.name or "").partition(".")[0]
    extra = _smallest_extra(package)
    if isinstance(error, MissingPackageError) or not extra:
        return error
    return MissingPackageError(_message(package, feature, extra))


def install_command(extra: str) -> str:
    """Return the shell command that adds an extra to the present installation.

    The command names the folder, wheel or repository that pip recorded when it installed the package (PEP 610).

    Parameters
    ----------
    extra : str
        Name of an extra, see `EXTRAS`.

    Returns
    -------
    str
        ``pip install ...``; ``from the project's folder: pip install '.[EXTRA]'`` where the origin is unknown or gone.
    """
    from urllib.parse import unquote, urlsplit

    origin = _origin()
    url = str(origin.get("url", ""))
    path = Path(unquote(urlsplit(url).path)) if url.startswith("file:") else None
    if "dir_info" in origin:
        if path is not None and path.is_dir():
            editable = "-e " if origin["dir_info"].get("editable") else ""
            return f"pip install {editable}'{path}[{extra}]'"
    elif "vcs_info" in origin:
        vcs = origin["vcs_info"]
        return f"pip install '{DISTRIBUTION}[{extra}] @ {vcs['vcs']}+{url}@{vcs['commit_id']}'"
    elif url and (path is None or path.is_file()):
        return f"pip install '{DISTRIBUTION}[{extra}] @ {url}'"
    return f"from the project's folder: pip install '.[{extra}]'"


def _origin() -> dict[str, Any]:
    """Return pip's record of the installation's source, empty where there is none."""
    from importlib import metadata  # these imports take longer than the rest of `import nflae_bridge`

    # The folder of the sources, first on the path when work is done in it, has metadata without a record.
    for found in metadata.distributions(name=DISTRIBUTION):
        try:
            if recorded := found.read_text("direct_url.json"):
                return dict(json.loads(recorded))
        except (ValueError, TypeError):
            return {}
    return {}


def _smallest_extra(package: str) -> str:
    return next((extra for extra, packages in EXTRAS.items() if package in packages), "")


def _message(package: str, feature: str, extra: str) -> str:
    reason = f"{package} is not installed{_REMARKS.get(extra, '')}"
    hint = f"  # without a GPU, first: {_CPU_TORCH}" if package == "torch" else ""
    return f"{feature} needs the extra {extra!r} ({reason}): {install_command(extra)}{hint}"
