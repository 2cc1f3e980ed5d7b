"""Install the blocks where GNU Radio Companion finds them, in folders of the user that hold no settings.

The descriptions (``.block.yml``) go to the folder of hierarchical blocks, which GRC reads beside its own; links to the
packages go to a folder of their own, which a ``.pth`` file in the user's ``site-packages`` adds to the path of GNU
Radio's Python.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from matlab_io.errors import NflaeError, writing

SUPPORTED = "3.10"
_PACKAGES = ("nflae_bridge", "simulator", "matlab_io")
_DEPENDENCIES = ("msgspec",)  # beside numpy and pyzmq, which GNU Radio itself requires
_GET = "apt-get install gnuradio, conda install -c conda-forge gnuradio, or gnuradio.org"
_PTH = "nflae-gnuradio.pth"
_SECONDS = 120.0

# Run by GNU Radio's Python.
_DESCRIBE = """
import json, site, sys
from importlib.util import find_spec
from gnuradio import gr
from gnuradio.grc.core.Config import Config
sys.path = [folder for folder in sys.path if folder != sys.argv[1]]  # what was installed before
print(json.dumps({
    "version": gr.version(), "python": ".".join(map(str, sys.version_info[:2])), "tag": sys.implementation.cache_tag,
    "blocks": Config.hier_block_lib_dir, "site": site.getusersitepackages() if site.ENABLE_USER_SITE else "",
    "missing": [name for name in sys.argv[2:] if find_spec(name) is None],
}))
"""


@dataclass(frozen=True)
class GnuRadio:
    """Describe an installation of GNU Radio.

    Parameters
    ----------
    python : str
        Its Python.
    version, python_version, cache_tag : str
        Versions of both, and the tag of that Python's compiled modules.
    blocks : Path
        Folder of the user's hierarchical blocks.
    site : Path or None
        Folder of the user's packages; None where that Python reads none.
    missing : tuple of str
        Packages that the blocks require and that Python does not find.
    """

    python: str
    version: str
    python_version: str
    cache_tag: str
    blocks: Path
    site: Path | None
    missing: tuple[str, ...]


def find_gnuradio(python: str | None = None) -> GnuRadio:
    """Find GNU Radio by the program ``grcc`` on the path.

    Parameters
    ----------
    python : str, optional
        Python that GNU Radio was installed for; by default that of ``grcc``.

    Returns
    -------
    GnuRadio

    Raises
    ------
    NflaeError
        If there is none, or its version is not supported.
    """
    python = python or _python_of_grcc()
    command = [python, "-c", _DESCRIBE, str(_links()), *_PACKAGES, *_DEPENDENCIES]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, env=_plain_environment(), cwd="/", check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NflaeError(f"{python}: cannot be run ({error}); name GNU Radio's Python with --python") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise NflaeError(f"{python}: has no GNU Radio with GRC ({reason}); name its Python with --python, or: {_GET}")
    try:
        found = json.loads(done.stdout.splitlines()[-1])
        version = str(found["version"]).removeprefix("v")
    except (IndexError, ValueError, TypeError, KeyError):
        raise NflaeError(f"{python}: is no Python; name GNU Radio's Python with --python") from None
    if version.split(".")[:2] != SUPPORTED.split("."):
        raise NflaeError(
            f"{python}: has GNU Radio {version}; the blocks are for {SUPPORTED}, and `nflae stream` serves the ZeroMQ"
            " blocks of other versions"
        )
    site = Path(found["site"]) if found["site"] else None
    blocks = Path(found["blocks"]).expanduser()
    return GnuRadio(python, version, found["python"], found["tag"], blocks, site, tuple(found["missing"]))


def _python_of_grcc() -> str:
    program = shutil.which("grcc")
    if program is None:
        raise NflaeError(f"GNU Radio is not installed: no grcc on the path; get it by {_GET}, or name --python")
    with open(program, "rb") as file:
        first = file.readline().decode(errors="replace").strip()
    words = first.removeprefix("#!").split()
    if not first.startswith("#!") or "python" not in words[-1]:
        raise NflaeError(f"{program}: is no Python program; name GNU Radio's Python with --python")
    return words[-1]


def _plain_environment() -> dict[str, str]:
    """Return an environment as GRC has it when it is started from a menu."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def block_files() -> Path:
    """Return the folder of the descriptions of the blocks."""
    return Path(__file__).parent / "grc"


def data_folder() -> Path:
    """Return the folder of the links and of the list of what was installed."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "nflae-bridge" / "gnuradio"


def _links() -> Path:
    return data_folder() / "python"


def shell_lines(gnuradio: GnuRadio) -> list[str]:
    """Return the commands of a shell in which GRC finds the blocks without an installation.

    Parameters
    ----------
    gnuradio : GnuRadio
        GNU Radio.

    Returns
    -------
    list of str

    Raises
    ------
    NflaeError
        If the folder of a package holds another NumPy than GNU Radio's.
    """
    settings = {"GRC_BLOCKS_PATH": [block_files()]}
    folders = list(dict.fromkeys(_folder_of(name).parent for name in gnuradio.missing))
    if folders:
        settings["PYTHONPATH"] = folders
    for folder in folders:
        if (folder / "numpy").exists():
            raise NflaeError(
                f"{folder}: must not be on the path of GNU Radio's Python: it has a NumPy of its own; use `nflae"
                f" gnuradio install`, or {_venv_of(gnuradio)}"
            )
    return [
        f"export {name}={shlex.quote(os.pathsep.join(map(str, folders)))}${{{name}:+:${name}}}"
        for name, folders in settings.items()
    ]


def install(gnuradio: GnuRadio) -> list[Path]:
    """Install the blocks, in place of those installed before.

    Parameters
    ----------
    gnuradio : GnuRadio
        GNU Radio.

    Returns
    -------
    list of Path
        Files and links installed.

    Raises
    ------
    NflaeError
        If a package is missing, or a file of that name is another program's or was changed: what was installed before
        stays. If a file cannot be written, or the blocks cannot be imported afterwards: nothing is left behind.
    """
    links = _packages_to_link(gnuradio)
    texts = {gnuradio.blocks / source.name: source.read_text() for source in sorted(block_files().glob("*.block.yml"))}
    if links and gnuradio.site is not None:
        texts = {gnuradio.site / _PTH: f"{_links()}\n", **texts}
    _require_free(texts)
    uninstall()
    made: list[Path] = []
    try:
        _link(links, made)
        for path, text in texts.items():
            _write(path, text, made)
        _save(made)
        _check(gnuradio)
    except BaseException:
        _save(made)
        uninstall()
        raise
    return [path for path in made if path.is_symlink() or not path.is_dir()]


def _packages_to_link(gnuradio: GnuRadio) -> dict[str, Path]:
    """Return the folders of the packages that GNU Radio's Python does not find."""
    links = {name: _folder_of(name) for name in _PACKAGES if name in gnuradio.missing}
    for name in set(_DEPENDENCIES) & set(gnuradio.missing):
        if sys.implementation.cache_tag != gnuradio.cache_tag:
            raise NflaeError(
                f"{gnuradio.python}: Python {gnuradio.python_version} has no {name}, and that of"
                f" {sys.executable} is for another version; {_venv_of(gnuradio)}"
            )
        links[name] = _folder_of(name)
    if links and gnuradio.site is None:
        raise NflaeError(
            f"{gnuradio.python}: reads no packages of the user; install nflae-bridge for it, or set what"
            " `nflae gnuradio path` prints"
        )
    return links


def _link(links: dict[str, Path], made: list[Path]) -> None:
    """Link packages into the folder of links."""
    if not links:
        return
    folder = _links()
    _make_folder(folder, made)
    with writing(folder):
        for name, target in links.items():
            (folder / name).symlink_to(target, target_is_directory=True)
            made.append(folder / name)


def _require_free(paths: Iterable[Path]) -> None:
    """Require that files to be written do not exist, unless this program installed them as they are."""
    listed = _listed() if _record().is_file() else {}
    for path in paths:
        if path.is_symlink() or (path.exists() and (path.is_dir() or listed.get(str(path)) != _digest(path))):
            raise NflaeError(
                f"{path}: exists, of another program or changed since it was installed; move it away first"
            )


def _venv_of(gnuradio: GnuRadio) -> str:
    return (
        f"install nflae for GNU Radio's own: {gnuradio.python} -m venv --system-site-packages gr-nflae &&"
        " gr-nflae/bin/pip install FOLDER && gr-nflae/bin/nflae gnuradio install, FOLDER that of nflae's sources"
    )


def _folder_of(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).resolve().parent


def _write(path: Path, text: str, made: list[Path]) -> None:
    _make_folder(path.parent, made)
    with writing(path):
        path.write_text(text)
    made.append(path)


def _make_folder(path: Path, made: list[Path]) -> None:
    for folder in reversed([path, *path.parents]):
        if not folder.exists():
            with writing(folder):
                folder.mkdir()
            made.append(folder)


def _check(gnuradio: GnuRadio) -> None:
    """Import the blocks as a flowgraph does."""
    code = "from nflae_bridge.live.gnuradio import blocks; [getattr(blocks, name) for name in blocks.__all__]"
    done = subprocess.run(
        [gnuradio.python, "-c", code],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        env=_plain_environment(),
        cwd="/",
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise NflaeError(f"{gnuradio.python}: cannot import the blocks ({reason}); {_venv_of(gnuradio)}")


def _save(made: list[Path]) -> None:
    """Write the list of what was installed, with the hash of each file."""
    _make_folder(data_folder(), made)
    listed = {str(path): _digest(path) for path in made}
    with writing(_record()):
        _record().write_text(json.dumps(listed, indent=1))


def _record() -> Path:
    return data_folder() / "installed.json"


def _listed() -> dict[str, str]:
    """Read the list of what was installed."""
    try:
        listed = dict(json.loads(_record().read_text("utf-8")))
        if all(isinstance(entry, str) for pair in listed.items() for entry in pair):
            return listed
    except (ValueError, TypeError):
        pass
    raise NflaeError(
        f"{_record()}: is no list of installed files; remove {data_folder()}, {_PTH} in the user's packages of"
        " GNU Radio's Python, and nflae_*.block.yml in ~/.grc_gnuradio by hand"
    )


def _digest(path: Path) -> str:
    """Return the hash of a file; the empty string for links and folders."""
    return "" if path.is_symlink() or path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()


def uninstall() -> tuple[list[Path], list[Path]]:
    """Remove what was installed, and the folders made for it that are empty.

    Returns
    -------
    removed, kept : list of Path
        Files and links removed, and files that were changed since, which are kept.

    Raises
    ------
    NflaeError
        If the list of what was installed cannot be read.
    """
    removed: list[Path] = []
    kept: list[Path] = []
    if not _record().is_file():
        return removed, kept
    listed = _listed()
    _record().unlink()
    for name, digest in reversed(listed.items()):
        path = Path(name)
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.is_symlink() or path.exists():
            is_own = _digest(path) == digest
            (removed if is_own else kept).append(path)
            if is_own:
                path.unlink()
    return removed, kept
