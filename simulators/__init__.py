"""Simulator plug-ins, one a file or one family a file. They use `simulator` and `Prior` from sbi_flows and
nothing else of it.

`ricker` and `gaussian`, then the ten tasks of the benchmark of Lueckmann et al. (2021, arXiv:2101.04653),
each with its ten public observations.
"""
