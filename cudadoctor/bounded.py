"""Calls that end in time: what does not is left behind in a daemon thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Overdue(Exception):
    """The call did not end in its time."""


class Call(Generic[T]):
    """A call that has begun in a thread of its own."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._results: list[T] = []
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._results.append(self._function())
        except BaseException as error:
            self._errors.append(error)

    def result(self, timeout_s: float | None = None) -> T:
        """Return what the function returns, or raise what it raises; raise Overdue after `timeout_s`."""
        self._thread.join(timeout_s)
        if self._errors:
            raise self._errors[0]
        if not self._results:
            raise Overdue
        return self._results[0]


def bounded(function: Callable[[], T], timeout_s: float) -> T:
    """Return what `function` returns, or raise what it raises; raise Overdue after `timeout_s`."""
    return Call(function).result(timeout_s)
