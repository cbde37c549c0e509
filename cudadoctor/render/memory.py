"""The GPU's memory as a launch will use it: a picture of four lines."""

from __future__ import annotations

from typing import NamedTuple

from cudadoctor.declare import CannotTell, Skip
from cudadoctor.facts import Card, Unknown
from cudadoctor.planning import in_gib, plan_of, task_of
from cudadoctor.report import Report
from cudadoctor.simulate.gpu_memory import Plan

_COLUMNS = 42  #: of the longest bar


class Row(NamedTuple):
    """One line: a label, how many columns its bar takes, a size, and a remark."""

    label: str
    columns: int
    size: str
    remark: str


def picture(report: Report) -> tuple[str, tuple[Row, ...]] | None:
    """Return the head and the rows; None where nothing is planned, or it is not known enough."""
    facts = report.facts
    sections = facts.launch, facts.model, facts.card, facts.packages
    launch, model, card, packages = sections
    if isinstance(launch, Unknown) or isinstance(model, Unknown):
        return None
    if isinstance(card, Unknown) or isinstance(packages, Unknown):
        return None
    try:
        plan = plan_of(task_of(launch, model, card, packages))
    except (Skip, CannotTell):
        return None
    return _head(card, plan), _rows(plan)


def _head(card: Card, plan: Plan) -> str:
    name = card.name if " " in card.name else card.name.replace("-", " ").upper()
    total = f"{(card.total_bytes or 0) / (1 << 30):.2f} GiB"
    each = f"{card.count} x " if card.count > 1 else ""
    return f"{each}{name or 'a card'}, {total} · budget {in_gib(plan.budget)} at {plan.utilization:g}"


def _rows(plan: Plan) -> tuple[Row, ...]:
    low = sum(part.bytes.low for part in plan.overhead)
    high = sum(part.bytes.high for part in plan.overhead)
    kept = max(0.0, plan.available.low)
    largest = max(plan.weights.high, high, kept, 1.0)

    def columns(count_bytes: float) -> int:
        return round(max(0.0, count_bytes) / largest * _COLUMNS)

    over = "over budget" if plan.weights.low > plan.budget else ""
    needs = f"{plan.max_model_len} tokens need {in_gib(plan.needed)}"
    return (
        Row("weights", columns(plan.weights.high), _between(plan.weights.low, plan.weights.high), over),
        Row("overhead", columns(high), _between(low, high), ", ".join(part.name for part in plan.overhead)),
        Row("KV cache", columns(kept), _left(plan), needs),
    )


def _left(plan: Plan) -> str:
    return _between(max(0.0, plan.available.low), plan.available.high) if plan.available.high > 0 else "none"


def _between(low: float, high: float) -> str:
    first, last = f"{low / (1 << 30):.1f}", f"{high / (1 << 30):.1f}"
    return f"{last} GiB" if first == last else f"{first} - {last} GiB"
