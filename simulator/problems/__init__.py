"""Precoding problems beyond one total power: one description, one table of combinations, one file per algorithm.

`problem` describes and checks, `combinations` lists the problems that can be solved and their algorithms, `dispatch`
calls the algorithm, `solution` holds its result and guards it; the algorithms are in `algorithms`.
"""
