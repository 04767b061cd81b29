"""Which plugins there are: read from source without running it, loaded, and hashed.

In: names and files. Out: `Plugin` descriptions and the classes and functions themselves.
Not its business: what a suite does with them.
"""
