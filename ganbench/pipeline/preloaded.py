"""What a worker would otherwise import by itself, each anew, for the server from which workers are forked.

What is imported here stays, so it is kept from Python's collector, as Python's documentation of `gc.freeze` has it:
a collection in a worker would go through all of it, and so copy it, for 0.3 s each.
"""

import gc

gc.disable()

import sklearn.datasets  # noqa: E402, F401  (and with it SciPy)
import torch._dynamo  # noqa: E402, F401  (for torch.func.grad)

from . import work  # noqa: E402, F401

gc.freeze()
