"""A report as one block of Markdown for a ticket: findings first, then what a maintainer asks for next.

What does not fit into a ticket is left out, details before findings, and said. Everything that is not plainly
a word stands in a code span or a fenced block, as in `markdown`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from cudadoctor.explain.model import Explanation, Seen
from cudadoctor.facts import Compilers, Driver, Environ, Launch, Machine, Packages, Toolkits
from cudadoctor.render import common
from cudadoctor.render.markdown import code, folded, foot, prose, verdicts
from cudadoctor.report import Report
from cudadoctor.show import escaped, visible

#: A comment on GitHub holds 65,536 characters, one on GitLab a million.
LIMIT = 65_000
#: Distributions that a maintainer of the stack asks for; the others are counted.
_STACK = re.compile(
    r"torch|vllm|flashinfer|triton|nvidia|cuda|cupy|xformers|flash-attn|flash-attention|transformers|tokenizers"
    r"|bitsandbytes|numpy|deep-gemm|deep-ep|apache-tvm-ffi|compressed-tensors|ray$|pynvml|huggingface|safetensors"
    r"|accelerate|numba|llguidance|xgrammar|mistral-common|outlines|sglang|tensorrt|onnxruntime|jax"
)
#: Variables that change what the stack does.
_TELLING = re.compile(
    r"CUDA|NVIDIA|NCCL|VLLM|TORCH|PYTORCH|FLASHINFER|TRITON|NVTE|NVSHMEM|LD_|LIBRARY_PATH|CPATH|C_INCLUDE|CPLUS"
    r"|^CC$|^CXX$|FLAGS|PYTHON|VIRTUAL_ENV|CONDA_PREFIX|^HF_|XDG_CACHE|TMPDIR|MAX_JOBS|OMP_|RAY_|UV_|PIP_"
)
_MOST_LINES = 400


def ticket(report: Report, told: Explanation | None, data: bytes, masked: Sequence[str]) -> str:
    """Return the whole block.

    `data` is the report's JSON; `masked` says what was masked, one line each.
    """
    parts = {
        "Findings": "\n".join(verdicts(report)) + "\n",
        _LOG: "\n".join(_log(told, common.home_of(report))) + "\n" if told is not None else "",
        "Environment": _folded("Environment", _environment(report)),
        "Variables": _folded("Variables", _variables(report)),
        "Packages": _folded("Packages", _packages(report)),
        "Checks": "\n".join(folded(report)).lstrip() + "\n",
    }
    last = "\n".join([*(masked or ["nothing was masked"]), "", foot(report)]) + "\n"
    return _fitted({title: part for title, part in parts.items() if part.strip()}, _json(data), last)


_LOG = "Log"


def _fitted(parts: Mapping[str, str], data: str, last: str) -> str:
    """Return as much as a ticket holds, the first parts first. A folded part is whole or left out."""
    whole = "\n".join([*parts.values(), data, last])
    if len(whole) <= LIMIT:
        return whole
    kept: list[str] = []
    left: list[str] = []
    room = LIMIT - _NOTES - len(last)
    for title, part in parts.items():
        # What one reads of a machine in a ticket is asked for more often than a log's tenth cause.
        most = room if title != _LOG else max(room - sum(map(len, parts.values())) + len(part), room // 2)
        shown = part if len(part) < most else "" if part.startswith("<details>") else _cut(part, most)
        kept.append(shown)
        left += [] if shown else [title]
        room -= len(shown) + 1
    notes = [
        f"The JSON of this report ({len(data) // 1024 + 1} KiB) is too long for a ticket: attach "
        f"{code('report.json')}, which {code('cudadoctor report --output DIR')} writes.\n"
    ]
    if left:
        notes.append(f"Left out, being too long as well: {', '.join(left)}.\n")
    return "\n".join([*filter(None, kept), *notes, last])


_NOTES = 400  #: characters that the notes on what was left out need
_CUT = "\n(cut: too long for a ticket)\n"
_LONGEST = 4000  #: of a line that is told where there is no room for all


def _cut(part: str, room: int) -> str:
    """Return a part that is not folded, of its entries the first line before the details of any."""
    room -= len(_CUT)
    entries = []
    for head, details in _entries(part):
        head = head if len(head) <= _LONGEST else _short(head)
        if len(head) + 1 > room:
            break
        entries.append((head, details))
        room -= len(head) + 1
    kept: list[str] = []
    for head, details in entries:
        if len(details) > room:
            details = "\n" if details.endswith("\n") else ""  # the empty line before a heading
        kept.append(head + details)
        room -= len(details)
    return "\n".join(kept) + "\n" + _CUT


def _entries(part: str) -> Iterator[tuple[str, str]]:
    """Yield each line that is not set in, with what is below it and set in, among that its fenced block."""
    for entry in re.split(r"\n(?=\S)", part.rstrip("\n")):
        head, break_, details = entry.partition("\n")
        yield head, break_ + details


def _short(head: str) -> str:
    """Return the start of a line that is too long to be shown, up to what it is about."""
    about = re.match(r"- [^`]*(?:`[^`]+`)?:(?= )", head)
    return f"{about[0] if about else '-'} (too long to show)"


def _log(told: Explanation, home: str) -> Iterator[str]:
    yield from ("### Log", "")
    if told.root is None:
        yield f"{code(told.log)}: no cause that is known here, in {told.lines} lines"
        if told.last_error:
            yield from ("", f"The last error in it: {code(told.last_error)}")
        return
    for seen in (told.root, *told.others):
        yield from _cause(told.log, seen, home)
    for label, seens in (("Consequences", told.consequences), ("Harmless", told.harmless)):
        if seens:
            titles = list(dict.fromkeys(each.title for each in seens))
            yield from ("", f"{label}: " + "; ".join(prose(title) for title in titles))
    for note in told.notes:
        yield from ("", f"Note: {prose(common.tilde(note, home))}")


def _cause(log: str, seen: Seen, home: str) -> Iterator[str]:
    yield f"- {code(f'{log}:{seen.line}')}: {prose(seen.title)} ({code(seen.cause)})"
    if seen.here is not None:
        check = f" ({code(seen.here.check)})" if seen.here.check else ""
        yield f"  - here: {seen.here.verdict}{check}: {prose(common.tilde(seen.here.says, home))}"
        for each in seen.here.evidence:
            yield f"  - seen: {code(common.tilde(each, home))}"
    if fix := (seen.here.fix if seen.here else seen.remedy):
        yield f"  - help: {code(fix)}"
    yield ""
    yield from _fenced([visible(line) for line in seen.around], "  ")


def _fenced(lines: Sequence[str], indent: str = "", kind: str = "text") -> Iterator[str]:
    """Yield a block that shows exactly these lines, whatever backticks they hold."""
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    yield f"{indent}{fence}{kind}"
    for line in lines:
        # A runner of GitHub obeys `::error::` behind blanks too, wherever a workflow prints it.
        yield f"{indent}{line.replace(':', chr(92) + 'x3a', 1) if line.lstrip().startswith('::') else line}"
    yield f"{indent}{fence}"


def _folded(title: str, lines: Sequence[str], kind: str = "text") -> str:
    """Return lines as a part that is folded away, or "" where there are none."""
    if not lines:
        return ""
    shown = list(lines[:_MOST_LINES])
    if len(lines) > _MOST_LINES:
        shown.append(f"... and {len(lines) - _MOST_LINES} more")
    head = ["<details>", f"<summary>{title}</summary>", ""]
    return "\n".join([*head, *_fenced(shown, "", kind), "", "</details>", ""])


def _environment(report: Report) -> list[str]:
    """Return what of the machine, compilers, toolkits and driver a maintainer asks for."""
    heads = list(common.heads(report))
    lines = [f"{head.label}: {', '.join(head.parts)}" for head in heads]
    facts = report.facts
    if isinstance(facts.launch, Launch):
        lines.append(f"Command: {shlex.join(facts.launch.argv)}")
        lines += [f"Command sets: {name}={each.value}" for name, each in facts.launch.variables.items()]
    if not any(head.label == "GPU" for head in heads) and isinstance(facts.driver, Driver):
        lines.append("GPU: no trace of one")
    if isinstance(facts.machine, Machine):
        lines.append(f"System: {', '.join(_machine(facts.machine))}")
    if isinstance(facts.compilers, Compilers):
        lines += [
            f"Compiler {each.command}: {each.family} {each.version} {each.path}".rstrip()
            for each in facts.compilers.compilers.values()
        ]
    if isinstance(facts.toolkits, Toolkits):
        lines += [
            f"Toolkit {each.version or '?'}: {each.root} ({each.layout}; {', '.join(each.found_by)})"
            for each in facts.toolkits.toolkits
        ]
    if isinstance(facts.driver, Driver):
        lines += [f"libcuda: {each.path} {each.version}".rstrip() for each in facts.driver.libraries]
    home = common.home_of(report)
    return [visible(common.tilde(line, home)) for line in lines]


def _machine(machine: Machine) -> Iterator[str]:
    """Yield what names a system, as far as it is known."""
    yield from filter(None, (machine.release or machine.system, machine.kernel, machine.arch))
    yield f"{machine.cores} cores"
    yield f"{machine.memory_total_bytes / (1 << 30):.1f} GiB"
    yield from filter(None, (machine.container and f"in {machine.container}", "WSL" if machine.wsl else ""))


def _variables(report: Report) -> list[str]:
    environ = report.facts.environ
    if not isinstance(environ, Environ):
        return []
    told = {name: each.value for name, each in environ.variables.items() if _TELLING.search(name)}
    if environ.path:
        told["PATH"] = ":".join(environ.path)
    return [visible(f"{name}={value}") for name, value in sorted(told.items())]


def _packages(report: Report) -> list[str]:
    packages = report.facts.packages
    if not isinstance(packages, Packages):
        return []
    told = [each for each in packages.distributions if _STACK.search(each.name)]
    lines = [f"{each.name}=={each.version}" for each in sorted(told, key=lambda each: each.name)]
    others = len(packages.distributions) - len(told)
    return [visible(line) for line in lines] + ([f"({others} others)"] if others else [])


def _json(data: bytes) -> str:
    title = "The report as JSON: cudadoctor check --facts FILE replays it"
    return _folded(title, [escaped(data.decode())], "json")
