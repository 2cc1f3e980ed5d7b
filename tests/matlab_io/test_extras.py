"""Check the extra and the install command named for a missing package."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from matlab_io.errors import NflaeError
from matlab_io.extras import EXTRAS, MissingPackageError, explain_import, install_command, require, require_extra

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
# Import names of the distributions whose two names differ, and of what one brings along.
IMPORTED = {
    "sionna-no-rt": ("sionna",),
    "prometheus-client": ("prometheus_client",),
    "distributed": ("distributed", "dask"),
}


def packages(extra: str) -> set[str]:
    """Return the import names of all that an extra of pyproject.toml installs."""
    found: set[str] = set()
    for requirement in PROJECT["optional-dependencies"][extra]:
        name, inner = re.match(r"([\w-]+)(?:\[([\w,-]+)\])?", requirement).groups()  # type: ignore[union-attr]
        if name == PROJECT["name"]:
            found = found.union(*(packages(each) for each in inner.split(",")))
        else:
            found |= set(IMPORTED.get(name, (name,)))
    return found - {"numpy"}  # the base install has it


def test_the_table_is_that_of_the_project_file() -> None:
    assert {extra: set(held) for extra, held in EXTRAS.items()} == {extra: packages(extra) for extra in EXTRAS}
    assert packages("all") == set().union(*EXTRAS.values())


def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, origin: dict[str, Any] | None) -> None:
    """Pretend that pip installed the package from ``origin``."""
    info = tmp_path / "site" / "nflae_bridge-9.dist-info"
    shutil.rmtree(info, ignore_errors=True)
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nflae-bridge\nVersion: 9\n")
    if origin is not None:
        (info / "direct_url.json").write_text(json.dumps(origin))
    others = [path for path in sys.path if not any(Path(path).glob("nflae_bridge*-info"))]
    monkeypatch.setattr(sys, "path", [*others, str(tmp_path / "site")])


def test_metadata_in_the_folder_of_the_sources_hides_no_record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed(monkeypatch, tmp_path, {"url": tmp_path.as_uri(), "dir_info": {"editable": True}})
    sources = tmp_path / "sources" / "nflae_bridge.egg-info"
    sources.mkdir(parents=True)
    (sources / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: nflae-bridge\nVersion: 9\n")
    monkeypatch.setattr(sys, "path", [str(sources.parent), *sys.path])
    assert install_command("engine") == f"pip install -e '{tmp_path}[engine]'"


def test_the_command_installs_from_where_the_package_came(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder, wheel = tmp_path / "my folder", tmp_path / "nflae_bridge-9-py3-none-any.whl"
    folder.mkdir()
    wheel.touch()
    unknown = "from the project's folder: pip install '.[engine]'"
    at = "https://host/nflae.git"
    for origin, command in (
        ({"url": folder.as_uri(), "dir_info": {}}, f"pip install '{folder}[engine]'"),
        ({"url": folder.as_uri(), "dir_info": {"editable": True}}, f"pip install -e '{folder}[engine]'"),
        ({"url": wheel.as_uri(), "archive_info": {}}, f"pip install 'nflae-bridge[engine] @ {wheel.as_uri()}'"),
        (
            {"url": at, "vcs_info": {"vcs": "git", "commit_id": "1"}},
            f"pip install 'nflae-bridge[engine] @ git+{at}@1'",
        ),
        ({"url": "https://host/a.whl", "archive_info": {}}, "pip install 'nflae-bridge[engine] @ https://host/a.whl'"),
        ({"url": (tmp_path / "gone").as_uri(), "dir_info": {}}, unknown),
        ({"url": (tmp_path / "gone.whl").as_uri(), "archive_info": {}}, unknown),
        (None, unknown),
    ):
        installed(monkeypatch, tmp_path, origin)
        assert install_command("engine") == command


def test_the_extra_is_the_smallest_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed(monkeypatch, tmp_path, None)
    for package, named in (
        ("torch", "engine"),
        ("distributed", "cluster"),
        ("matplotlib", "plot"),
        ("transformers", "train"),
        ("pandas", "tables"),
        ("prometheus_client", "metrics"),
    ):
        found = explain_import(ModuleNotFoundError("", name=f"{package}.inner"), "nflae x")
        message, _, comment = str(found).partition("  # ")
        assert message == (
            f"nflae x needs the extra '{named}' ({package} is not installed): "
            f"from the project's folder: pip install '.[{named}]'"
        )
        # A shell ignores the comment, so that the rest of the line can be pasted.
        assert ("https://download.pytorch.org/whl/cpu" in comment) == (package == "torch")
        assert isinstance(found, NflaeError)


def test_other_failed_imports_are_not_explained() -> None:
    error = ModuleNotFoundError("No module named 'other'", name="other")
    assert explain_import(error, "nflae x") is error
    missing = MissingPackageError("source umi needs ...")
    assert explain_import(missing, "nflae x") is missing


def test_require_finds_an_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    require("numpy", "nothing")
    monkeypatch.setitem(__import__("sys").modules, "sionna", None)
    with pytest.raises(
        MissingPackageError, match=r"source umi needs the extra 'sionna' \(.*; for Python 3\.11 or 3\.12\): "
    ):
        require("sionna", "source umi")
    with pytest.raises(MissingPackageError, match=r"nflae link needs the extra 'link' \(sionna"):
        require_extra("link", "nflae link")
