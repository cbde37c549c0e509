"""What every rendering of a report says, before it is text or Markdown.

Strings here are as the report has them: each rendering escapes what its own reader would obey.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cudadoctor.facts import (
    Environ,
    Gpu,
    Launch,
    Live,
    Machine,
    Packages,
    Stage,
    Target,
    Toolkit,
    Toolkits,
    TorchBuild,
    Unknown,
)
from cudadoctor.findings import Finding, Remedy, Severity
from cudadoctor.outcomes import Crashed, Inconclusive, Outcome, Passed, Skipped
from cudadoctor.report import Report

PLAINLY_CURRENT = "the current variables"


class Head(NamedTuple):
    """One line of a report's head: "Toolkit", what it is, and how that was found."""

    label: str
    parts: tuple[str, ...]
    found: str = ""
    notes: tuple[str, ...] = ()


class Count(NamedTuple):
    """How many of one kind: 2, "errors", and the kind ("error")."""

    number: int
    words: str
    kind: str


def heads(report: Report) -> Iterator[Head]:
    """Yield the head of a report: what was diagnosed, with which toolkit and which packages."""
    if report.replayed:
        yield Head("Replay", ("judged from a saved file: this machine was not looked at",))
    launch = report.facts.launch
    if isinstance(launch, Unknown) or not launch.contained:
        yield _target(report)
        yield _toolkit(report)
        yield _stack(report)
    if not isinstance(launch, Unknown):
        yield _launch(launch)
    yield from _gpus(report)
    if isinstance(report.facts.live, Live):
        yield Head("Stages", tuple(map(_stage, report.facts.live.stages)))


def _stage(stage: Stage) -> str:
    """Return one stage of --deep as it ended: "torch passed in 2.1 s"."""
    name = {"gpu": "GPU", "flashinfer": "FlashInfer", "vllm": "vLLM"}.get(stage.name, stage.name)
    match stage.ended:
        case "passed":
            return f"{name} passed in {stage.seconds:.1f} s"
        case "failed":
            return f"{name} failed"
        case _:
            return f"{name} not reached ({stage.message.partition(':')[0]})"


def _launch(launch: Launch) -> Head:
    """Return what is to be started; in a container nothing of this machine's environments counts."""
    where = launch.source if launch.source != "command line" else ""
    image = f"in {launch.image}" if launch.image else "in a container" if launch.container else ""
    program = shlex.join(launch.argv[:3]) if launch.kind == "other" else _PROGRAMS[launch.kind]
    parts = (program, launch.model, image, where)
    return Head("Launch", tuple(part for part in parts if part))


_PROGRAMS = {
    "vllm-serve": "vllm serve",
    "vllm-api-server": "vLLM's API server",
    "vllm-llm": "vLLM's LLM class",
}


def _unknown(label: str, section: Unknown) -> Head:
    return Head(label, (section.reason if section.expected else f"unknown: {section.reason}",))


def _target(report: Report) -> Head:
    target = report.target
    if isinstance(target, Unknown):
        return _unknown("Target", target)
    version = f"Python {target.version}" if target.version else "Python of unknown version"
    parts = (target.prefix, target.kind, version if target.python or target.version else "no Python in it")
    return Head("Target", parts, f"from {target.chosen_by}", (*target.notes, *_judged(report, target)))


def _judged(report: Report, target: Target) -> Iterator[str]:
    environ = report.facts.environ
    if isinstance(environ, Environ):
        if environ.judged != PLAINLY_CURRENT:
            yield f"judged by {environ.judged}"
    elif not environ.expected:
        yield f"its variables are unknown: {environ.reason}"
    elif not target.active:
        yield "it is not active"


def _toolkit(report: Report) -> Head:
    toolkits = report.facts.toolkits
    if isinstance(toolkits, Unknown):
        return _unknown("Toolkit", toolkits)
    chosen = _selected(toolkits, report.facts.environ) or _behind_nvcc(toolkits) or _idle(toolkits)
    if chosen is None:
        return Head("Toolkit", ("none within reach",))
    toolkit, found = chosen
    parts = (
        toolkit.version or "version unknown",
        toolkit.root,
        *(() if toolkit.nvcc else ("no nvcc in it",)),
    )
    return Head("Toolkit", parts, found)


def _selected(toolkits: Toolkits, environ: Environ | Unknown) -> tuple[Toolkit, str] | None:
    """Return the toolkit that the first consumer selects; None where what it selects is no toolkit."""
    if not toolkits.selections:
        return None
    selection = toolkits.selections[0]
    # CUDA_HOME may spell by a link what another way led to first.
    toolkit = toolkits.at(selection.root) or next(
        (t for t in toolkits.toolkits if selection.rule in t.found_by), None
    )
    if toolkit is None:
        return None
    if not selection.rule.isidentifier():
        return toolkit, selection.rule
    return (
        toolkit,
        f"from {environ.where(selection.rule) if isinstance(environ, Environ) else selection.rule}",
    )


def _behind_nvcc(toolkits: Toolkits) -> tuple[Toolkit, str] | None:
    nvcc = toolkits.nvcc_on_path
    if nvcc is None:
        return None
    toolkit = toolkits.at((nvcc.runs or nvcc.path).rpartition("/bin/")[0])
    how = {"script": "nvcc on PATH is a script that starts it", "link": "nvcc on PATH is a link to it"}
    return (toolkit, how.get(nvcc.kind, "its nvcc is on PATH")) if toolkit else None


def _idle(toolkits: Toolkits) -> tuple[Toolkit, str] | None:
    first = next(iter(toolkits.toolkits), None)
    return (first, f"nothing selects it; found by: {', '.join(first.found_by)}") if first else None


def _stack(report: Report) -> Head:
    packages = report.facts.packages
    if isinstance(packages, Unknown):
        return _unknown("Stack", packages)
    unreadable = tuple(f"could not be read: {folder}" for folder in packages.unreadable)
    installed = tuple(_installed(packages))
    return Head("Stack", installed or ("nothing of torch, vLLM or FlashInfer installed",), "", unreadable)


def _installed(packages: Packages) -> Iterator[str]:
    """Yield name and version of the stack's packages, torch's as torch itself states it."""
    if packages.torch is not None:
        yield f"torch {packages.torch.version}{_built_for(packages.torch)}"
    for label, name in (
        ("torch", "torch"),
        ("vllm", "vllm"),
        ("flashinfer", "flashinfer-python"),
        ("triton", "triton"),
        ("triton", "pytorch-triton"),
    ):
        found = packages.find(name)
        if found is not None and not (label == "torch" and packages.torch is not None):
            damage = " (its metadata cannot be read)" if found.problem else ""
            yield f"{label} {found.version or 'of unknown version'}{damage}"


def _built_for(torch: TorchBuild) -> str:
    """Return what torch was built for, where its version does not say so itself: conda's has no +cu130."""
    if torch.hip:
        return "" if "+rocm" in torch.version else f" (ROCm {torch.hip})"
    if torch.cuda:
        return "" if "+cu" in torch.version else f" (CUDA {torch.cuda})"
    return "" if "+cu" in torch.version else " (CPU-only)"


def _gpus(report: Report) -> Iterator[Head]:
    """Yield the GPUs and their driver; nothing on a machine that has none."""
    driver = report.facts.driver
    if isinstance(driver, Unknown):
        if not driver.expected:
            yield _unknown("GPU", driver)
        return
    if not driver.signs() and not driver.gpus:
        return
    kinds: dict[str, int] = {}
    for gpu in driver.gpus:
        kinds[_about(gpu)] = kinds.get(_about(gpu), 0) + 1
    shown = [f"{number} x {about}" if number > 1 else about for about, number in kinds.items()]
    of = f" (CUDA {driver.nvml.cuda})" if driver.nvml.cuda else ""
    version = f"driver {driver.version}{of}" if driver.version else "no driver at work"
    yield Head("GPU", (*(shown or ["none that the driver shows"]), version))


def _about(gpu: Gpu) -> str:
    """Return "NVIDIA GeForce RTX 3090 (8.6, 24.0 GiB)"."""
    memory = "" if gpu.problem else "memory not reported"
    if gpu.memory_total_bytes is not None:
        memory = f"{gpu.memory_total_bytes / (1 << 30):.1f} GiB"
    details = ", ".join(filter(None, (gpu.capability, memory)))
    return f"{gpu.name or 'unknown'} ({details})" if details else gpu.name or "unknown"


def counts(report: Report) -> list[Count]:
    """Return how many of each kind: of what is bad only where there is any, the worst first."""
    findings = [finding for _, finding in report.findings()]
    number = {severity: sum(f.severity is severity for f in findings) for severity in Severity}
    counted = [
        *(_plural(number[s], s.value) for s in (Severity.ERROR, Severity.WARNING, Severity.NOTE)),
        Count(_ended(report, Inconclusive), "inconclusive", "inconclusive"),
        Count(_ended(report, Crashed), "crashed", "crashed"),
        Count(len(list(suppressed(report))), "suppressed", "suppressed"),
    ]
    always = [
        Count(_ended(report, Passed), "passed", "passed"),
        Count(_ended(report, Skipped), "skipped", "skipped"),
    ]
    return [count for count in counted if count.number] + always


def _plural(number: int, word: str) -> Count:
    return Count(number, word if number == 1 else f"{word}s", word)


def _ended(report: Report, kind: type[Outcome]) -> int:
    return sum(isinstance(outcome, kind) for outcome in report.outcomes)


def all_well(report: Report) -> bool:
    """Return whether something was looked at and nothing at all is to be said about it."""
    return [count.kind for count in counts(report) if count.number][:1] == ["passed"]


def undecided(report: Report) -> list[Outcome]:
    """Return the checks that reached no verdict: crashed ones first, then inconclusive ones."""
    kinds: tuple[type[Outcome], ...] = (Crashed, Inconclusive)
    return [outcome for kind in kinds for outcome in report.outcomes if isinstance(outcome, kind)]


def by_reason(outcomes: Sequence[Outcome]) -> list[tuple[Outcome, int]]:
    """Return one outcome of those that share kind and reason, and how many more there are.

    What cannot be looked at (site-packages of another user) leaves half of the checks undecided.
    """
    first: dict[tuple[type[Outcome], str], Outcome] = {}
    count: dict[tuple[type[Outcome], str], int] = {}
    for outcome in outcomes:
        key = type(outcome), outcome.reason
        first.setdefault(key, outcome)
        count[key] = count.get(key, 0) + 1
    few = [key for key, number in count.items() if number <= _FEW]
    told = {id(outcome): 0 for outcome in outcomes if (type(outcome), outcome.reason) in few}
    told |= {id(outcome): count[key] - 1 for key, outcome in first.items() if key not in few}
    return [(outcome, told[id(outcome)]) for outcome in outcomes if id(outcome) in told]


_FEW = 3  #: checks with one reason that are told one by one


def suppressed(report: Report) -> Iterator[tuple[str, Finding]]:
    """Yield the name of the check with each finding that a configuration file accepts."""
    for outcome in report.outcomes:
        yield from ((outcome.check, finding) for finding in outcome.findings if finding.suppressed)


def uneventful(report: Report) -> list[Outcome]:
    """Return the checks that passed, then those that were skipped, each by name."""
    kinds: tuple[type[Outcome], ...] = (Passed, Skipped)
    return [
        o for kind in kinds for o in sorted(report.outcomes, key=lambda o: o.check) if isinstance(o, kind)
    ]


def seen(source: str, detail: str) -> str:
    """Return one piece of evidence as a line; `CUDA_HOME: CUDA_HOME=/x` says the name once."""
    if not source or not detail:
        return source or detail
    return detail if detail.startswith(f"{source}=") else f"{source}: {detail}"


def remedy_text(remedy: Remedy) -> str:
    """Return what a remedy does, in its own words or by its values."""
    return remedy.summary or " ".join([f"{remedy.fix}:", *(f"{k}={v}" for k, v in remedy.values.items())])


def advice(remedy: Remedy) -> tuple[str, str, str] | None:
    """Return label, options and what they hold of a line of advice; None for any other remedy."""
    if remedy.fix != "show" or "label" not in remedy.values:
        return None
    values = remedy.values
    return values["label"], values.get("options", ""), values.get("holds", remedy.summary)


def details(finding: Finding) -> Iterator[str]:
    """Yield what shows a finding and what helps, a line each: "seen: ...", "fix: ..."."""
    for evidence in finding.evidence:
        yield f"seen: {seen(evidence.source, evidence.detail)}"
    for remedy in finding.remedies:
        if told := advice(remedy):
            label, options, holds = told
            yield f"{label}: {', '.join(filter(None, (options, holds)))}"
        else:
            yield f"{'help' if remedy.fix == 'show' else 'fix'}: {remedy_text(remedy)}"


class Remedies:
    """Remembers which remedy was shown with which check, so that the same one is shown once."""

    def __init__(self) -> None:
        self._shown: dict[object, str] = {}

    def shown_with(self, check: str, remedy: Remedy) -> str:
        """Return the check with which this remedy was shown before, or "" where it is new."""
        key = (remedy.fix, tuple(sorted(remedy.values.items())) or remedy.summary)
        known = self._shown.get(key, "")
        self._shown.setdefault(key, check)
        return known


def home_of(report: Report) -> str:
    """Return the home folder that the report's paths may start with, or "" where it is not known."""
    machine = report.facts.machine
    home = machine.home.rstrip("/") if isinstance(machine, Machine) else ""
    return home if home.startswith("/") else ""


def tilde(text: str, home: str) -> str:
    """Return `text` with the home folder as ~, where a path starts there and nobody would copy it quoted."""
    if not home or home not in text:
        return text
    return re.sub(rf"(?<![^\s(=:]){re.escape(home)}(?=[/\s:,;)]|$)", "~", text)
