"""What the commands share: facts from the machine or a file, and a word when that takes a while."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable

from cudadoctor.engine import collect
from cudadoctor.facts import Facts
from cudadoctor.host import Host, RealHost
from cudadoctor.mistakes import UserMistake
from cudadoctor.probes.target import Asked, NoTarget, Request
from cudadoctor.report import UnreadableReport, decode

REPLAY_LIMIT_BYTES = 64 << 20
_REAL = {
    "deep": "running the real compiler and linker",
    "live": "importing the real stack",
    "symbols": "resolving every symbol with the real loader",
}


def asked_in(options: argparse.Namespace) -> Asked | None:
    """Return the launch that a command was given; most are given none."""
    return getattr(options, "asked", None)


def facts_for(options: argparse.Namespace, wanted: Iterable[str], host: Host | None = None) -> Facts:
    """Return the facts of the target that the options name, or those of the file to replay."""
    if options.facts:
        if options.deep:
            raise UserMistake("--deep runs real commands: it cannot be combined with --facts")
        return _replay(options.facts)
    if options.deep:
        end_on_signals()
    named = (options.prefix or "", options.python or "", options.name or "")
    request = Request(*named, options.deep, asked_in(options))
    try:
        with Waiting() as waiting:
            return collect(host or RealHost(), wanted, request, waiting.tell)
    except NoTarget as problem:
        raise UserMistake(str(problem)) from None


def end_on_signals() -> None:
    """Let SIGTERM and SIGHUP end this program as Ctrl-C does: compilers stopped, no folder left."""
    import signal
    import threading

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _stop)


def _stop(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _replay(name: str) -> Facts:
    try:
        if name == "-":
            data = sys.stdin.buffer.read(REPLAY_LIMIT_BYTES + 1)
        else:
            data = RealHost().read(name, REPLAY_LIMIT_BYTES)
    except (OSError, ValueError) as error:
        raise UserMistake(f"--facts {name}: {getattr(error, 'strerror', None) or error}") from None
    try:
        return decode(data)
    except UnreadableReport as problem:
        raise UserMistake(f"--facts {name}: {problem}") from None


class Waiting:
    """A line on a terminal's stderr while probes take longer than a second; gone when they are done."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._shown = False

    def __enter__(self) -> Waiting:
        return self

    def tell(self, names: list[str]) -> None:
        """Say which sections are still being looked at."""
        real = [_REAL[name] for name in names if name in _REAL]
        self.say(" and ".join(real) if len(real) == len(names) else f"looking at {', '.join(names)}")

    def say(self, what: str) -> None:
        """Say what takes so long."""
        if not sys.stderr.isatty():
            return
        elapsed = time.monotonic() - self._started
        sys.stderr.write(f"\r\x1b[K{what} ... {elapsed:.0f} s")
        sys.stderr.flush()
        self._shown = True

    def __exit__(self, *_: object) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
