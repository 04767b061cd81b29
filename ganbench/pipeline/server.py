"""The process from which workers are forked. It takes seconds to import what they need, so it is started first."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext


def start() -> ForkServerContext:
    """Start the server, unless it runs already, and do not wait for it; the context of its forks.

    It must import the modules that we import, and not what has their name in the present folder, such as a
    checkout of ganbench beside an installed one.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ganbench.pipeline.preloaded"])
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before
    return context
