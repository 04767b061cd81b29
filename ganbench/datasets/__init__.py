"""The shipped datasets, plugins like a user's own file.

In: a generator and parameters. Out: `Data` with its fixed splits.
Not its business: which of them a suite uses, and how they are scored.
"""
