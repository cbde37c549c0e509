"""Gives a reader many inputs, and keeps count of what becomes of them."""

from __future__ import annotations

import faulthandler
import gc
import re
import time
import traceback
from collections.abc import Callable
from typing import Any

import psutil
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from msgspec import Struct, field

#: Processor time that one input may take.
LIMIT_S = 2.0
#: After so long an input counts as one that never ends: the stack is printed, and the run is over.
HANGS_S = 120.0
CHUNK = 500  #: inputs after which hypothesis begins anew, or what it remembers of them would be the growth


class Trouble(Exception):
    """What is wrong though nothing was raised; two of one `kind` are one."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


class Reader(Struct, frozen=True):
    """One reader: what it is given, and how that is read to the end of all that comes after it."""

    name: str
    inputs: st.SearchStrategy[Any]
    read: Callable[[Any], bool]  #: whether it was accepted; anything that it raises is a crash
    reduce: Callable[[Any, Callable[[Any], bool]], Any] | None = None
    share: int = 1  #: of all inputs, in proportion to the others'


class Crash(Struct):
    """One kind of crash, with the smallest input that was found for it."""

    kind: str
    what: str
    example: str
    count: int = 1


class Figures(Struct):
    """What became of the inputs of one reader."""

    reader: str
    inputs: int = 0
    different: int = 0
    rejected: int = 0
    accepted: int = 0
    slowest_ms: float = 0.0
    slowest: str = ""
    growth_mib: float = 0.0
    crashes: dict[str, Crash] = field(default_factory=dict)


def run(reader: Reader, inputs: int, number: int = 0, chunk: int = CHUNK) -> Figures:
    """Return the figures of so many inputs; `number` is the seed."""
    figures = Figures(reader.name)
    seen: set[int] = set()
    first = 0.0
    while figures.inputs < inputs:
        before = figures.inputs
        wanted = min(chunk, inputs - figures.inputs)
        _chunk(reader, figures, wanted, number, seen)
        figures.different = len(seen)
        number += 1
        if figures.inputs == before:
            break
        if not first and figures.inputs >= inputs // 5:
            first = resident_mib()
    figures.growth_mib = max(0.0, resident_mib() - first)
    return figures


def resident_mib() -> float:
    """Return the memory of this process that is in use, in MiB."""
    gc.collect()
    return float(psutil.Process().memory_info().rss) / (1 << 20)


def _chunk(reader: Reader, figures: Figures, inputs: int, number: int, seen: set[int]) -> None:
    failing: list[Any] = []

    @seed(number)
    @settings(
        max_examples=inputs,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
    )
    @given(reader.inputs)
    def once(case: Any) -> None:
        if not failing:
            seen.add(hash(case))
        try:
            _count(reader, figures, case, not failing)
        except Exception:
            failing[:] = [case]
            raise

    try:
        once()
    except Exception as error:
        if not failing:
            raise
        _keep(reader, figures, failing[0], error)


def _count(reader: Reader, figures: Figures, case: Any, counts: bool) -> None:
    """Read one input; raise a crash that is new."""
    faulthandler.dump_traceback_later(HANGS_S, exit=True)
    started = time.process_time()
    try:
        accepted = reader.read(case)
    except Exception as error:
        figures.inputs += counts
        known = figures.crashes.get(kind_of(error))
        if known is None:
            raise
        known.count += 1
        return
    finally:
        faulthandler.cancel_dump_traceback_later()
        taken_ms = (time.process_time() - started) * 1000
        if taken_ms > figures.slowest_ms:
            figures.slowest_ms, figures.slowest = taken_ms, shown(case)
    figures.inputs += counts
    figures.accepted += counts and accepted
    figures.rejected += counts and not accepted
    if taken_ms > LIMIT_S * 1000:
        slow = figures.crashes.setdefault("slow", Crash("slow", f"took {taken_ms:.0f} ms", shown(case), 0))
        slow.count += 1


def _keep(reader: Reader, figures: Figures, case: Any, error: Exception) -> None:
    """Note a crash with an input as small as can be."""
    kind = kind_of(error)
    if reader.reduce is not None:

        def fails(other: Any) -> bool:
            try:
                reader.read(other)
            except Exception as again:
                return kind_of(again) == kind
            return False

        if fails(case):
            case = reader.reduce(case, fails)
    what = "".join(traceback.format_exception_only(type(error), error)).strip()
    figures.crashes[kind] = Crash(kind, what[:600], shown(case))


def kind_of(error: BaseException) -> str:
    """Return what two crashes that are one have in common: the place, or the kind of trouble."""
    if isinstance(error, Trouble):
        return error.kind
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/site-packages/" not in frame.filename]
    where = ours[-1] if ours else frames[-1] if frames else None
    return f"{type(error).__name__} at {where.filename}:{where.lineno}" if where else type(error).__name__


def shown(case: Any, most: int = 4000) -> str:
    """Return an input as Python, so that it can be tried again; long runs are left out of the middle."""
    text = repr(case)
    text = re.sub(r"(.)\1{199,}", lambda run: f"{run[1] * 8}<{len(run[0]) - 8} more>", text)
    return (
        text
        if len(text) <= most
        else f"{text[: most // 2]} <{len(text) - most} characters> {text[-most // 2 :]}"
    )
