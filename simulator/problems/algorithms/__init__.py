"""Algorithms for the precoding problems: one file per problem, each with its equation.

An algorithm is a function ``(batch, budget, problem, inner) -> ProblemSolution`` around an inner scheme, or a classical
rival ``(batch, budget, problem) -> ProblemSolution``; further parameters with defaults are its options, as those of a
scheme of the registry.
"""
