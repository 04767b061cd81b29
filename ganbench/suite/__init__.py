"""Suites: reads the YAML, checks it, and plans the cells to run.

In: a YAML file or a shipped name. Out: a `Suite` and its `Cell`s, or every mistake with its line.
Not its business: data, tensors, running anything.
"""
