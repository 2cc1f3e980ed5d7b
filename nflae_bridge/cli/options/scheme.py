"""Define the option that names precoding schemes with their own options."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import click

from nflae_bridge.cli.options.common import refuse_options
from nflae_bridge.cli.terminal import warn
from simulator.problems.problem import NO_NETWORK

NETWORK = "nflae"


class SchemeOption(click.Option):
    """Option that names schemes, ``NAME[:OPTION=VALUE]...``; its help lists them.

    The registry is read when a value or the help is needed, not when the command is defined. The value is the text of
    one scheme, or a list of them for an option that takes several; without a value, of all, or an empty one where that
    depends on the problem.

    Parameters
    ----------
    several
        Take several schemes, comma between them.
    also
        Further names, without options.
    sic
        Allow schemes that need receivers with SIC.
    problems
        Allow schemes that solve particular precoding problems only.
    """

    def __init__(
        self,
        *args: Any,
        several: bool = False,
        also: tuple[str, ...] = (NETWORK,),
        sic: bool = True,
        problems: bool = False,
        **settings: Any,
    ) -> None:
        self._several, self._also, self._sic, self._problems = several, also, sic, problems
        metavar = "NAME[:OPTION=VALUE]" + (",..." if several else "")
        super().__init__(*args, metavar=metavar, callback=self._chosen, shell_complete=self._complete, **settings)

    @property
    def help(self) -> str:
        """Text of the help, with the names and options of the schemes."""
        from simulator.schemes.options import usage
        from simulator.schemes.registry import known_options, needs_sic_as_declared

        sic = " (receivers with SIC)"
        listed = [usage(name, known_options(name)) + sic * needs_sic_as_declared(name) for name in self._names()]
        text, bracket, default = self._text.partition("  [default")
        others = f" Of particular problems: {', '.join(self._of_problems())}." if self._problems else ""
        return f"{text} One of {', '.join(listed)}.{others}{bracket}{default}"

    @help.setter
    def help(self, text: str) -> None:
        self._text = text

    def _names(self) -> list[str]:
        from simulator.schemes.registry import needs_sic_as_declared, scheme_names

        names = [name for name in scheme_names() if name not in self._also]
        return [*self._also, *(name for name in names if self._sic or not needs_sic_as_declared(name))]

    def _of_problems(self) -> tuple[str, ...]:
        from simulator.problems.combinations import problem_schemes

        return problem_schemes() if self._problems else ()

    def _chosen(self, ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | list[str]:
        if value is None and self._several:
            return [] if self._problems else usable_schemes()
        if not self._several:
            return self._checked(value or "")
        specs = [part for part in (value or "").split(",") if part.strip()]
        if not specs:
            raise click.BadParameter(f"no scheme named: there are {', '.join(self._names())}")
        return list(dict.fromkeys(map(self._checked, specs)))

    def _checked(self, spec: str) -> str:
        from simulator.schemes.options import SchemeError, split_spec
        from simulator.schemes.registry import check_scheme, needs_sic_as_declared

        if split_spec(spec)[0] in self._of_problems():
            return spec  # with its options, which depend on the problem
        try:
            checked = check_scheme(spec, self._also, self._sic)
        except SchemeError as error:
            raise click.BadParameter(str(error)) from None
        if not self._sic and needs_sic_as_declared(split_spec(spec)[0]):
            needs = "needs receivers that decode and cancel other users' messages (SIC)"
            raise click.BadParameter(f"{checked} {needs}: leave it out; there are {', '.join(self._names())}")
        return checked

    def _complete(self, ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",") if self._several else ("", "", incomplete)
        return [f"{before}{comma}{name}" for name in self._names() if name.startswith(last)]


def refuse_network_options(schemes: Collection[str], remedy: str, objective: str | None = None) -> None:
    """Refuse options of the network on the command line where it takes no part.

    Parameters
    ----------
    schemes : collection of str
        Schemes of the command.
    remedy : str
        Reason and remedy, after the name of the option, where the network is not one of them.
    objective : str, optional
        Objective of the problem.

    Raises
    ------
    click.UsageError
        For the first option that is typed.
    """
    if NETWORK not in schemes:
        refuse_options(remedy, ("effort", "refine", "refinements"))
    elif objective == "max-min":
        refuse_options(f"{NO_NETWORK}.", ("effort", "refine", "refinements", "model", "models"))


def usable_schemes() -> list[str]:
    """Return the names of the schemes of the registry that can be used, the network's last; warn of the others."""
    from simulator.schemes.registry import REGISTRY, scheme_names, unusable_schemes

    unusable = unusable_schemes()
    for reason in (*REGISTRY.third_party().problems, *unusable.values()):
        warn(reason)
    return [*(name for name in scheme_names() if name not in (*unusable, NETWORK)), NETWORK]
