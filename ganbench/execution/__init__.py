"""A run: what is missing, split into tasks, done by worker processes or on Ray.

In: a suite and a folder. Out: a run directory with every record, and an exit code.
Not its business: what a number means.
"""
