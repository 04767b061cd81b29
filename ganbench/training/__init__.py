"""Training: the loop, the stack of replicas, random numbers, recorded and compiled graphs.

In: a cell and its data. Out: trained seeds with their tensors and curves.
Not its business: where results are stored and which process runs this.
"""
