"""The GPU's memory as a launch will use it: a picture of four lines, and how far it could go."""

from __future__ import annotations

from typing import NamedTuple

from cudadoctor.planned import MemoryPlan, Span
from cudadoctor.planning import share, times
from cudadoctor.tasks import in_gib

_COLUMNS = 42  #: of the longest bar


class Row(NamedTuple):
    """One line: a label, how many columns its bar takes, a size, and a remark."""

    label: str
    columns: int
    size: str
    remark: str


class Picture(NamedTuple):
    """The head, the rows, and a line for each profile."""

    head: str
    rows: tuple[Row, ...]
    profiles: tuple[str, ...]


def picture(plan: MemoryPlan) -> Picture:
    """Return what is to be drawn."""
    return Picture(_head(plan), _rows(plan), _profiles(plan))


def _head(plan: MemoryPlan) -> str:
    each = f"{plan.cards} x " if plan.cards > 1 else ""
    total = f"{plan.total_bytes / (1 << 30):.2f} GiB"
    budget = f"budget {in_gib(plan.budget_bytes)} at {share(plan.utilization)}"
    why = f" ({plan.assumed})" if plan.assumed else ""
    return f"{each}{plan.card}, {total} · {budget} · as vLLM {plan.vllm} plans{why}"


def _rows(plan: MemoryPlan) -> tuple[Row, ...]:
    overhead = Span(
        max(0, sum(part.bytes.low for part in plan.overhead)), sum(part.bytes.high for part in plan.overhead)
    )
    kept = max(0.0, plan.kv_cache.low)
    largest = max(plan.weights.high, overhead.high, kept, 1.0)

    def columns(count_bytes: float) -> int:
        return round(max(0.0, count_bytes) / largest * _COLUMNS)

    over = "over budget" if plan.weights.low > plan.budget_bytes else ""
    return (
        Row("weights", columns(plan.weights.high), _between(plan.weights), over),
        Row(
            "overhead",
            columns(overhead.high),
            _between(overhead),
            ", ".join(part.name for part in plan.overhead),
        ),
        Row("KV cache", columns(kept), _left(plan), _needs(plan)),
    )


def _needs(plan: MemoryPlan) -> str:
    needs = f"{plan.max_model_len} tokens need {in_gib(plan.needed_bytes)}"
    if plan.outcome != "fits":
        return needs
    return f"{needs}: {times(plan.concurrency.low, plan.concurrency.high)} at once"


def _left(plan: MemoryPlan) -> str:
    kept = plan.kv_cache
    return _between(Span(max(0.0, kept.low), kept.high)) if kept.high > 0 else "none"


def _between(amount: Span) -> str:
    first, last = f"{amount.low / (1 << 30):.1f}", f"{amount.high / (1 << 30):.1f}"
    return f"{last} GiB" if first == last else f"{first} - {last} GiB"


def _profiles(plan: MemoryPlan) -> tuple[str, ...]:
    longest = max((len(each.options) for each in plan.profiles), default=0)
    return tuple(f"{each.name:<8} {each.options:<{longest}}   {each.holds}" for each in plan.profiles)
