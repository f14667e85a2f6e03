"""Simulator plug-ins, one a file. They use `simulator` and `Prior` from sbi_flows and nothing else of it."""
