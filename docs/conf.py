"""Configure Sphinx: Markdown pages by MyST, the API reference from the docstrings."""

from __future__ import annotations

import gc
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import generate

from matlab_io.version import __version__

gc.disable()  # collecting among the nodes of all pages takes a third of the build's time, for 0.5 GB

project = "nflae-bridge"
author = "nflae-bridge developers"
copyright = author
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["**/*.jsonl"]
default_role = "code"
html_theme = "furo"
html_title = f"nflae-bridge {release}"
html_static_path: list[str] = []
html_copy_source = False
myst_heading_anchors = 4
maximum_signature_line_length = 100

napoleon_google_docstring = False
napoleon_use_param = False  # types are prose: no cross-references
napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "params_style")]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_use_type_comments = False  # none are used; looking for them doubles the time
autodoc_mock_imports = [
    name for name in ("distributed", "gnuradio", "pmt", "sionna", "triton") if find_spec(name) is None
]


def _escape(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = [generate.escape_markup(line) for line in lines]


def setup(app: Any) -> None:
    """Make the pages of the API reference and let formulas in docstrings pass as text.

    Parameters
    ----------
    app : sphinx.application.Sphinx
        The build.
    """
    generate.write_api_pages(Path(app.srcdir) / "reference" / "api")
    app.connect("autodoc-process-docstring", _escape, priority=100)  # before napoleon, which adds markup
