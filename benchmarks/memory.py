"""The memory planner against measured starts of vLLM: `python -m benchmarks.memory FILE.jsonl`.

Each line of FILE is one start: `model`, `config` (keys of config.json), `vllm`, `gpu`, `gpu_total_gib`,
`args` (engine arguments) and `log` (what vLLM printed). Two questions are asked of the planner:

    A. from the logged available KV cache: how many tokens, which concurrency? Judged by relative error.
    B. from configuration and card alone: is the logged available KV cache inside the range? Judged by
       coverage and by the width of the range as a fraction of the card's memory.

Rows that say so (`check: skip`), and rows without what a question needs, are left out of it and counted. The
last line is one JSON object.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from cudadoctor.knowledge.gpus import find_in
from cudadoctor.simulate.gpu_memory import Card, Plan, plan
from cudadoctor.simulate.kv_cache import GIB, Flags, capacity, largest_len, lay_out, needed_bytes
from cudadoctor.simulate.model_shape import Shape, read_shape
from cudadoctor.simulate.weights import Range

Row = Mapping[str, Any]
#: Formats that a repository's name tells, where the flags do not: the longest first.
_FORMATS = ("NVFP4", "MXFP4", "W4A16", "GPTQ", "AWQ", "INT4", "INT8", "FP8")

#: Families that have a vision encoder, where a row leaves that part of config.json out.
_SEES = re.compile(r"qwen3\.[5-9x]|-vl-|gemma-3-(4|12|27)b|medgemma|mistral-small-3", re.IGNORECASE)


class LeftOut(Exception):
    """Why a row is not asked a question."""


#: What a row with missing or odd fields ends in.
_ODD = (LeftOut, ValueError, TypeError, KeyError, AttributeError)


class Compared(Struct, frozen=True):
    """One logged quantity and what the planner says of it."""

    row: str
    quantity: str
    predicted: float
    logged: float

    @property
    def error(self) -> float:
        return abs(self.predicted - self.logged) / abs(self.logged) if self.logged else 0.0


class Covered(Struct, frozen=True):
    """One logged available KV cache and the range for it, in GiB."""

    row: str
    model: str
    gpu: str
    logged: float
    low: float
    high: float
    total: float
    loaded: bool  #: whether the weights are those of the log, config.json saying too little

    @property
    def inside(self) -> bool:
        return self.low <= self.logged <= self.high

    @property
    def width(self) -> float:
        return (self.high - self.low) / self.total


# --- one row as the planner's input -------------------------------------------------------------------------


def shape_of(row: Row) -> Shape:
    """Return the row's shape; the rows' own short keys become those of a real config.json."""
    config = dict(row.get("config") or {})
    if not config:
        raise LeftOut("no configuration")
    full = config.pop("n_full", None)
    if full is not None:
        kinds = {"n_sliding": "sliding_attention", "n_mamba": "mamba", "n_cross": ""}
        named = ["full_attention"] * full
        for key, kind in kinds.items():
            count = config.pop(key, 0)
            if key == "n_cross" and count:
                config["decoder_layers"] = count
            elif count:
                named += [kind] * count
        config["layer_types"] = named
    if config.pop("nested", None) or _SEES.search(str(row.get("model"))):
        config["vision_config"] = config.get("vision_config") or {}
    return read_shape(config)


def flags_of(row: Row, *, length: bool = True) -> Flags:
    """Return the row's engine arguments."""
    args: Row = row.get("args") or {}
    speculative = int(args.get("num_speculative_tokens") or 0)
    return Flags(
        vllm=str(row.get("vllm") or "0"),
        max_model_len=args.get("max_model_len") if length else None,
        max_num_seqs=args.get("max_num_seqs"),
        max_num_batched_tokens=args.get("max_num_batched_tokens"),
        gpu_memory_utilization=args.get("gpu_memory_utilization"),
        kv_cache_dtype=str(args.get("kv_cache_dtype") or "auto"),
        kv_cache_memory_bytes=args.get("kv_cache_memory_bytes"),
        num_gpu_blocks_override=args.get("num_gpu_blocks"),
        block_size=args.get("block_size"),
        tensor_parallel_size=int(args.get("tp") or 1),
        pipeline_parallel_size=int(args.get("pp") or 1),
        decode_context_parallel_size=int(args.get("dcp") or 1),
        pp_layer_partition=tuple(args.get("pp_layer_partition") or ()),
        # In this format what is not listed was off: it was listed wherever the log shows that it was on.
        enable_prefix_caching=bool(args.get("enable_prefix_caching")),
        enforce_eager=bool(args.get("enforce_eager")),
        num_speculative_tokens=speculative,
        draft_layers=int(args.get("draft_layers") or 0),
        disable_hybrid_kv_cache_manager=bool(args.get("hybrid_kv_disabled")),
        mamba_ssm_cache_dtype=str(args.get("mamba_ssm_cache_dtype") or "auto"),
        quantization=_format(row, args),
        cpu_offload_gb=args.get("cpu_offload_gb") or 0,
    )


def _format(row: Row, args: Row) -> str:
    """Return the weight format: what the repository's name says, else the flag."""
    named = str(row.get("model") or "").upper()
    asked = str(args.get("quantization") or "")
    if asked in ("awq", "awq_marlin", "gptq", "gptq_marlin", "mxfp4"):
        return asked
    for name in _FORMATS:
        if name in named:
            # Where no kernel is asked for, vLLM takes Marlin's for both.
            return f"{name.lower()}_marlin" if name in ("AWQ", "GPTQ") else name.lower()
    if "GPT-OSS" in named:
        return "mxfp4"
    return "" if asked in ("compressed-tensors", "modelopt") else asked


def card_of(row: Row) -> Card:
    """Return the row's card: what CUDA reported, else what such cards report."""
    text = str(row.get("gpu") or "")
    known = None if "class" in text else find_in(text)
    total = row.get("gpu_total_gib") or (known.total_gib if known else None)
    if not total:
        raise LeftOut("the card's memory is not known")
    unified = bool(known and known.unified) or "unified" in text or "Jetson" in text
    return Card(float(total) * GIB, known.name if known else text, unified=unified)


# --- A: from the logged available memory --------------------------------------------------------------------


def compare(row: Row) -> list[Compared]:
    """Return what the planner makes of the logged available KV cache, beside what vLLM printed."""
    log: Row = row.get("log") or {}
    shape, flags = shape_of(row), flags_of(row)
    layout = lay_out(shape, flags)
    name = str(row.get("id") or "?")
    logged = log.get("available_kv_gib_by_stage") or log.get("available_kv_gib")
    found: list[Compared] = []

    def add(quantity: str, predicted: float | None, value: object) -> None:
        if isinstance(value, int | float) and predicted is not None:
            found.append(Compared(name, quantity, predicted, value))

    if flags.max_model_len:
        add("needed GiB", needed_bytes(layout, flags.max_model_len) / GIB, log.get("needed_gib"))
    if logged is None and flags.num_gpu_blocks_override is None:
        return found
    each = _stages(logged, len(layout.stages))
    held = capacity(layout, each)
    add("tokens", held.tokens, log.get("kv_tokens"))
    add("concurrency", held.concurrency, log.get("max_concurrency"))
    if flags.max_model_len:
        add("longest", largest_len(layout, min(each), flags.max_model_len), log.get("estimated_max_len"))
    return found


def _stages(logged: Any, stages: int) -> list[int]:
    values = logged if isinstance(logged, list) else [logged] * stages
    return [int(float(value or 0.0) * GIB) for value in values]


# --- B: from configuration and card -------------------------------------------------------------------------


def cover(row: Row) -> Covered:
    """Return the range of available KV cache for a row, and where the logged one lies; raises LeftOut."""
    log: Row = row.get("log") or {}
    logged = log.get("available_kv_gib")
    if not isinstance(logged, int | float):
        raise LeftOut("no available KV cache is logged")
    flags = flags_of(row)
    if flags.kv_cache_memory_bytes:
        raise LeftOut("the KV cache was given in bytes")
    card = card_of(row)
    planned, loaded = _plan(row, flags, card, log)
    if logged * GIB > planned.budget:
        raise LeftOut("more KV cache is logged than the posted utilisation allows")
    return Covered(
        str(row.get("id") or "?"),
        str(row.get("model") or ""),
        card.name,
        logged,
        planned.available.low / GIB,
        planned.available.high / GIB,
        card.total / GIB,
        loaded,
    )


def _plan(row: Row, flags: Flags, card: Card, log: Row) -> tuple[Plan, bool]:
    """Return the plan, with the logged weights where config.json says too little of them."""
    from msgspec import structs

    shape = shape_of(row)
    if not flags.max_model_len and not shape.positions:
        flags = structs.replace(flags, max_model_len=1)
    try:
        return plan(shape, flags, card), False
    except ValueError as error:
        weights = log.get("model_weights_gib")
        if not isinstance(weights, int | float):
            raise LeftOut(str(error)) from error
        return plan(shape, flags, card, Range(weights * GIB, weights * GIB)), True


# --- the table ----------------------------------------------------------------------------------------------


def quantile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank quantile; NaN of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def folds(rows: Sequence[Covered], group: Callable[[Covered], str]) -> tuple[float, float]:
    """Return coverage and median width where each group is judged by ranges fitted to the others.

    Fitted is one number: by what all ranges are stretched about their middles, so that nine in ten of the
    other groups' rows are inside. It says whether the ranges are as wide as they need be, and no narrower.
    """
    inside, widths = 0, []
    for name in {group(row) for row in rows}:
        others = [_stretch(row) for row in rows if group(row) != name]
        factor = quantile(others, 0.9)
        held = [row for row in rows if group(row) == name]
        inside += sum(_stretch(row) <= factor for row in held)
        widths += [row.width * factor for row in held]
    return inside / len(rows), statistics.median(widths)


def _stretch(row: Covered) -> float:
    """Return the factor by which a row's range must be stretched to just hold what was logged."""
    return abs(row.logged - (row.low + row.high) / 2) / max((row.high - row.low) / 2, 1e-9)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table for a file of measured starts."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if len(arguments) != 1:
        print("usage: python -m benchmarks.memory FILE.jsonl", file=sys.stderr)
        return 2
    rows = [_decoded(line) for line in Path(arguments[0]).read_text().splitlines() if line.strip()]
    compared, covered, left = _ask(rows)
    _print(compared, covered, left)
    print(json.dumps(_summary(compared, covered, len(rows))))
    return 0


def _ask(rows: Sequence[object]) -> tuple[list[Compared], list[Covered], Counter[str]]:
    """Return the answers to both questions, and how often something was left out and why."""
    compared: list[Compared] = []
    covered: list[Covered] = []
    left: Counter[str] = Counter()
    for row in rows:
        if not isinstance(row, dict) or row.get("check") == "skip":
            left["A and B: the row says so" if isinstance(row, dict) else "A and B: it is no row"] += 1
            continue
        try:
            compared += compare(row)
        except _ODD as error:
            left[f"A: {str(error)[:70]}"] += 1
        try:
            covered.append(cover(row))
        except _ODD as error:
            left[f"B: {str(error)[:70]}"] += 1
    return compared, covered, left


def _decoded(line: str) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _summary(compared: list[Compared], covered: list[Covered], cases: int) -> dict[str, float | int]:
    errors = [row.error for row in compared if row.quantity in ("tokens", "concurrency")]
    covered = [row for row in covered if not row.loaded]
    return {
        "cases": cases,
        "tokens_median_error": quantile(errors, 0.5),
        "tokens_p95_error": quantile(errors, 0.95),
        "worst": max(errors, default=math.nan),
        "range_covers": sum(row.inside for row in covered) / len(covered) if covered else math.nan,
        "range_median_width": statistics.median(row.width for row in covered) if covered else math.nan,
    }


def _print(compared: list[Compared], covered: list[Covered], left: Counter[str]) -> None:
    for name in dict.fromkeys(row.quantity for row in compared):
        errors = [row.error for row in compared if row.quantity == name]
        print(
            f"A {name:<12} n={len(errors):<4} median {quantile(errors, 0.5):9.4%}  "
            f"p95 {quantile(errors, 0.95):9.4%}  worst {max(errors):9.4%}"
        )
    for found in sorted(compared, key=lambda row: -row.error)[:8]:
        numbers = f"{found.predicted:14,.2f} {found.logged:14,.2f} {found.error:8.3%}"
        print(f"  {found.row:<36}{found.quantity:<12} {numbers}")
    strict = [row for row in covered if not row.loaded]
    for name, rows in (("all", covered), ("weights too from config.json", strict)):
        if rows:
            share = sum(row.inside for row in rows) / len(rows)
            width = statistics.median(row.width for row in rows)
            print(f"B {name:<30} n={len(rows):<4} covered {share:7.2%}  median width {width:7.2%}")
    if len(strict) > 2:
        _print_folds(strict)
    for case in covered:
        print(_line(case))
    for reason, count in left.most_common():
        print(f"left out of {reason} ({count})")


def _print_folds(rows: list[Covered]) -> None:
    groups: dict[str, Callable[[Covered], str]] = {
        "row": lambda row: row.row,
        "model": lambda row: row.model,
        "card": lambda row: row.gpu,
    }
    for name, group in groups.items():
        share, width = folds(rows, group)
        print(
            f"B each {name} left out, fitted to the others: covered {share:7.2%}  median width {width:7.2%}"
        )


def _line(case: Covered) -> str:
    mark = "  " if case.inside else "! "
    where = f"{case.row:<36}{case.gpu[:16]:<17}"
    numbers = f"{case.low:9.2f} .. {case.high:7.2f} logged {case.logged:7.2f}  {case.width:6.2%}"
    return f"{mark}{where}{numbers}{'  weights of the log' if case.loaded else ''}"


if __name__ == "__main__":
    raise SystemExit(main())
