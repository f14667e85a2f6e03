"""Simulator plug-ins, one simulator or family per file. Of sbi_flows they use only `simulator` and `Prior`.

`ricker` and `gaussian`, then the ten tasks of the benchmark of Lueckmann et al. (2021, arXiv:2101.04653),
each with its ten public observations.
"""
