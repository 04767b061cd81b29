"""The run directory: its paths and files, with atomic writes, checksums and locks.

In: trained seeds and scores. Out: the same, and the records of a run.
Not its business: how results are computed, judged or shown.
"""
