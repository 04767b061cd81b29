"""Protocol hashes of earlier versions.

Until November 2026 the hash of a protocol was that of its sentence, which could not be reworded without a new hash. Now
it is that of the metric's name, version, parameters and `protocol_fields` (see `scoring.protocol`). `protocols.json`
maps old hashes to new ones, so that earlier tables and run directories stay comparable: those of all shipped suites,
with all their budgets, and of the shipped metrics with default parameters on the shipped datasets. It needs no new
entries: what is hashed now does not change unless the metric does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path


def current_protocol(protocol: str) -> str:
    """The present hash of the same protocol. A hash that is not in the table, such as a present one, is returned
    unchanged."""
    return _table().get(protocol, protocol)


@cache
def _table() -> Mapping[str, str]:
    return json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
