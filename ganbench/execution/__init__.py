"""Runs: splits the missing work into tasks, and does them in worker processes or on Ray.

In: a suite and a folder. Out: a run directory with all records, and an exit code.
Not its business: the meaning of a number.
"""
