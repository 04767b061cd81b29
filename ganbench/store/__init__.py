"""The run directory: its paths, names and files; atomic, checked, locked.

In: trained seeds and scores. Out: the same, and the records of a run.
Not its business: how results are made, judged or shown.
"""
