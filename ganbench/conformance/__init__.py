"""Whether a plugin keeps its contract: the checks of `ganbench test`, one kind of plugin after the other.

In: a file or a plugin. Out: checks with what is wrong and how to mend it.
Not its business: whether its numbers are good.
"""
