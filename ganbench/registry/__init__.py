"""Plugins, shipped or the user's: reads them from source without running it, finds, loads and hashes them.

In: names and files. Out: `Plugin` descriptions, and the classes and functions themselves.
Not its business: how a suite uses them.
"""

from .digest import digest as digest
from .digest import neighbours as neighbours
from .load import PACKAGE as PACKAGE
from .load import build as build
from .load import catalog as catalog
from .load import find as find
from .load import find_divergence as find_divergence
from .load import find_feature as find_feature
from .load import load as load
from .load import named as named
from .load import shipped as shipped
from .scan import KINDS as KINDS
from .scan import UNKNOWN as UNKNOWN
from .scan import Param as Param
from .scan import Plugin as Plugin
from .scan import scan as scan
