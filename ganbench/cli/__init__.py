"""The command line.

In: arguments. Out: text and an exit code.
Not its business: anything that the Python API could not do as well.
"""

from .commands import main as main
