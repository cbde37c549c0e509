"""Calls that end in time: what does not is left behind in a daemon thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Overdue(Exception):
    """The call did not end in its time."""


def bounded(function: Callable[[], T], timeout_s: float) -> T:
    """Return what `function` returns, or raise what it raises; raise Overdue after `timeout_s`."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise errors[0]
    if not results:
        raise Overdue
    return results[0]
