"""A headless Chromium, spoken to in its own protocol over two pipes: enough to open a page and look at it."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
)  # fmt: skip


# Chromium reads commands from descriptor 3 and answers on 4. These may be in use: first away from there.
LAUNCHER = """import fcntl, os, sys
ends = [fcntl.fcntl(int(text), fcntl.F_DUPFD, 10) for text in sys.argv[1:3]]
os.dup2(ends[0], 3), os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])"""


def found() -> str | None:
    """A Chromium on the PATH."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page. `problems` collects console errors, uncaught exceptions and blocked or failed requests."""

    def __init__(self, program: str, profile: Path) -> None:
        self.problems: list[str] = []
        self._loaded, self._number, self._rest = False, 0, b""
        commands, self._out = os.pipe()
        self._in, answers = os.pipe()
        python = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(commands), str(answers)]
        call = [*python, program, *SWITCHES, f"--user-data-dir={profile}"]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(call, pass_fds=(commands, answers), stdout=quiet, stderr=quiet)
        os.close(commands)
        os.close(answers)
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None
        self.call("Browser.close")
        self._process.wait(timeout=300)
        os.close(self._out)
        os.close(self._in)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def open(self, path: Path, width: int = 1200) -> None:
        """Open a file in a window of this width and wait until it is loaded."""
        self._loaded = False
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not self._loaded:
            self._read()

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression (a promise is awaited)."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def _read(self, timeout: float = 30.0) -> dict[str, Any]:
        deadline = time.monotonic() + timeout
        while b"\0" not in self._rest:
            if not select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError("the browser did not answer")
            self._rest += os.read(self._in, 1 << 16)
        text, self._rest = self._rest.split(b"\0", 1)
        message = json.loads(text)
        self._watch(message.get("method", ""), message.get("params", {}))
        return message

    def _watch(self, event: str, params: dict[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Runtime.exceptionThrown" or (
            event == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning")
        ):
            self.problems.append(json.dumps(params)[:500])
        elif event == "Log.entryAdded":
            self.problems.append(f"{params['entry']['source']}: {params['entry']['text']}")
        elif event == "Network.requestWillBeSent" and not params["request"]["url"].startswith(
            ("data:", "file:")
        ):
            self.problems.append(f"asks for {params['request']['url']}")
