"""Define ``nflae matlab-path``: the folder of the MATLAB and Octave functions."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(
    "matlab-path",
    short_help="Print the folder of the MATLAB and Octave functions.",
    epilog="""\b
    Examples:
      >> [~, folder] = system('nflae matlab-path'); addpath(strtrim(folder))    in MATLAB or Octave
      export OCTAVE_PATH=$(nflae matlab-path)                                   before Octave starts
      export MATLABPATH=$(nflae matlab-path)                                    before MATLAB starts
    """,
)
def command() -> None:
    """Print the folder to be added to the path of MATLAB or Octave.

    It holds nflae.precode, nflae.predict and nflae.simulate, which run this program on temporary files, nflae.Client
    for a running nflae serve, and examples; see its Contents.m and gettingStarted.m.
    """
    import matlab_io

    click.echo(Path(matlab_io.__path__[0]).resolve() / "matlab")
