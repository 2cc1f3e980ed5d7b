"""Precoding schemes: one file per classical scheme, all under one registry.

`registry` finds them by name, `options` parses their options; `codebooks` and `superposition` hold the mathematics of
hybrid precoding and of NOMA.
"""

from simulator.schemes.options import Between, SchemeError
from simulator.schemes.registry import check_scheme, needs_sic, register, scheme, scheme_names

__all__ = ["Between", "SchemeError", "check_scheme", "needs_sic", "register", "scheme", "scheme_names"]
