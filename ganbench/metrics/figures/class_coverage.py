"""Class occupancy: the classes are drawn as modes are."""

from __future__ import annotations

from .modes import figure as figure
