"""What a suite says: YAML with positions, checked, as a `Suite` and the plan of its cells.

In: a YAML file or a shipped name. Out: `Suite` and `Plan`, or every mistake with its line.
Not its business: data, tensors, running anything.
"""
