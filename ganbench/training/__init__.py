"""How seeds are trained: the loop, the stack of replicas, random numbers, recorded graphs.

In: a cell and its data. Out: trained seeds with their tensors and curves.
Not its business: where results lie and which process this is.
"""
