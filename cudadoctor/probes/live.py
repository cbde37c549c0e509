"""The stack taken into use by the interpreter that it is installed for: what `child/stack.py` finds.

Everything that the stack writes goes into a temporary folder. tvm-ffi's cached add-ons are shown to it there,
as links; a cache that cannot be written to is left as it is, so that a build fails there as it really would.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from cudadoctor.facts import Dlpack, Environ, Live, LoadedLibrary, Packages, Stage, Target
from cudadoctor.host import Host, Ran
from cudadoctor.probes.compilers import child_environ
from cudadoctor.probes.deep import caged
from cudadoctor.versions import numbers

#: For one stage: importing vLLM from a cold disk took 50 s.
STAGE_S = 120.0
#: How many times that some may take: tvm-ffi's compiler needs 31 s on two idle cores, over 120 s where they
#: have other work; what vLLM's LLM imports is four times what vLLM itself does.
LONGER = {"dlpack": 2, "vllm": 2}
#: For all of them: below what the engine grants the probe.
TOTAL_S = 480.0

_SCRIPT = f"{__file__.rpartition('/probes/')[0]}/child/stack.py"
_NEEDS = {
    "torch": "torch",
    "gpu": "torch",
    "dlpack": "torch",
    "flashinfer": "flashinfer-python",
    "vllm": "vllm",
}
STAGES = ("driver", *_NEEDS)

#: Beside those that `caged` knows.
_FOLDERS = (
    "FLASHINFER_CUBIN_DIR",
    "HF_HOME",
    "MPLCONFIGDIR",
    "NUMBA_CACHE_DIR",
    "TORCH_HOME",
    "TRITON_HOME",
    "VLLM_CONFIG_ROOT",
)
_SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}

_LINES = 12
_LINE = 300
_SIGNALS = {4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM"}


def probe(
    host: Host,
    target: Target,
    environ: Environ,
    packages: Packages,
    dlpack: Dlpack,
    *,
    stage_s: float = STAGE_S,
    total_s: float = TOTAL_S,
) -> Live:
    """Return how each stage ended; `stage_s` is for one of them, and twice that for the slow ones."""
    absent = {
        stage: f"{name} is not installed" for stage, name in _NEEDS.items() if packages.find(name) is None
    }
    wanted = [stage for stage in STAGES if stage not in absent]
    if not target.python or wanted == ["driver"]:
        why = "nothing of the stack is installed" if target.python else "the environment has no Python"
        return Live(tuple(Stage(name, "not-reached", absent.get(name, why)) for name in STAGES))
    variables = child_environ(host, environ)
    try:
        with host.temporary({}, variables) as folder:
            # Not a name that anybody could print by chance, nor one that is known before.
            token = f"<{os.urandom(16).hex()}>"
            plan = _plan(token, wanted, packages, dlpack, folder, stage_s)
            argv = (target.python, "-B", _SCRIPT, msgspec.json.encode(plan).decode())
            ran = host.run(argv, _environ(variables, folder, plan), cwd=folder, timeout_s=total_s)
    except OSError as error:
        why = f"no temporary folder: {error.filename or ''}: {error.strerror or error}"
        return Live(tuple(Stage(name, "not-reached", absent.get(name, why)) for name in STAGES))
    story = _read(ran, token, total_s)
    stages = tuple(
        Stage(name, "not-reached", absent[name]) if name in absent else story.stage(name) for name in STAGES
    )
    return Live(stages, tuple(_owned(host, packages, story.loaded)), story.fp8)


def _plan(
    token: str, wanted: Sequence[str], packages: Packages, dlpack: Dlpack, folder: str, stage_s: float
) -> dict[str, Any]:
    flashinfer = packages.flashinfer
    cage = dlpack.writable and dlpack.cache
    return {
        "token": token,
        "stages": {name: stage_s * LONGER.get(name, 1) for name in wanted},
        "through_tvm_ffi": flashinfer is not None and numbers(flashinfer.version) >= (0, 4),
        "cached": dlpack.cache,
        "cache": f"{folder}/tvm_ffi_cache_dir" if cage else "",
    }


def _environ(variables: Mapping[str, str], folder: str, plan: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables with every cache pointed into `folder`, and nothing fetched from anywhere."""
    inside = {name: f"{folder}/{name.lower()}" for name in _FOLDERS}
    made = {**caged(variables, folder), **inside, **_SETTINGS}
    if plan["cached"] and not plan["cache"]:
        made["TVM_FFI_CACHE_DIR"] = plan["cached"]
    return made


# --- what came back -----------------------------------------------------------------------------------------


FLOOD = "printed more than"  #: how `Host.run` says that it has ended a program for what it printed


class _Story(Struct, frozen=True):
    """What the child told, and how its process ended."""

    ended: dict[str, dict[str, Any]]
    begun: str  #: the last stage that began
    death: str  #: how the process ended before its time; "" where it did not
    stderr: dict[str, str]  #: by stage
    loaded: tuple[str, ...]
    fp8: str

    def stage(self, name: str) -> Stage:
        """Return how a stage ended; one that was begun, and told nothing, is where the process died."""
        told = self.ended.get(name)
        if told is not None:
            lines = _tail(self.stderr.get(name, "")) if told["ended"] == "failed" else ()
            return Stage(name, told["ended"], told["message"], told["seconds"], lines)
        if name == self.begun and self.death.startswith(FLOOD):
            return Stage(name, "not-reached", f"{self.death} to stderr, and was ended for it")
        if name == self.begun:
            return Stage(name, "failed", self.death, stderr=_tail(self.stderr.get(name, "")))
        if not self.begun:
            return Stage(name, "not-reached", self.death, stderr=_tail(self.stderr.get("", "")))
        return Stage(name, "not-reached", f"the process had ended before it, at {self.begun}")


def _read(ran: Ran, token: str, total_s: float) -> _Story:
    """Put the story together from both streams; whatever is not wholly there, or no record, is left out."""
    pieces = list(_pieces(ran.stderr, token))
    told = [record for record, _ in (*_pieces(ran.stdout, token), *pieces)]
    ended = {record["end"]: record for record in told if "end" in record}
    begun = max((record["begin"] for record in told if "begin" in record), key=STAGES.index, default="")
    stderr, at = dict[str, str](), ""
    for record, text in pieces:
        at = record.get("begin", at)
        stderr[at] = stderr.get(at, "") + text
    death = next(filter(None, map(_death, told)), "") or _without_guardian(ran, total_s)
    loaded = [record["loaded"] for record in told if "loaded" in record]
    fp8 = [record["fp8"] for record in ended.values() if record["fp8"]]
    return _Story(ended, begun, death, stderr, tuple(loaded[-1] if loaded else ()), fp8[-1] if fp8 else "")


def _pieces(text: str, token: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each record with the text behind it; first an empty one, with what comes before all of them.

    Of a record that is damaged the text stays: it may be the last that a dying process had to say.
    """
    head, *rest = text.split(token)
    yield {}, head
    for piece in rest:
        length = int(piece[:8], 16) if re.match(r"[0-9a-f]{8}", piece) else 0
        try:
            record = msgspec.json.decode(piece[8 : 8 + length], type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeEncodeError):
            yield {}, piece
            continue
        yield record, piece[8 + length :]


def _death(record: Mapping[str, Any]) -> str:
    """Return how the guardian saw its worker end; "" where it tells no such thing."""
    if "late" in record:
        return f"did not end within {record['late']:g} s"
    status = record.get("died")
    if status is None:
        return ""
    if status < 0:
        return f"the process died of {_SIGNALS.get(-status, f'signal {-status}')}"
    return f"the process ended itself, with status {status}"


def _without_guardian(ran: Ran, total_s: float) -> str:
    if ran.timed_out:
        return f"did not end within {total_s:g} s"
    if ran.problem:
        return ran.problem
    status = _SIGNALS.get(-ran.status, f"signal {-ran.status}") if ran.status < 0 else f"status {ran.status}"
    return f"the interpreter ended with {status}"


def _tail(text: str) -> tuple[str, ...]:
    """Return the last lines that say something, each of a length to be shown.

    Where the interpreter was asked, or made, to say where it is, the innermost calls come first: those count.
    """
    lines = [line.rstrip() for line in text.splitlines() if line.strip() and "<frozen importlib" not in line]
    says = [number for number, line in enumerate(lines) if "(most recent call first)" in line]
    first = max(0, says[0] - 2) if says else max(0, len(lines) - _LINES)
    shown = lines[first : first + _LINES]
    return tuple(line if len(line) <= _LINE else f"{line[:_LINE]}..." for line in shown)


# --- whose libraries these are ------------------------------------------------------------------------------

_OWNERS = re.compile(r"nvidia-|cuda-|torch$|triton$|vllm$|cupy-|bitsandbytes$|flashinfer-")
_RECORD_BYTES = 16 << 20


def _owned(host: Host, packages: Packages, paths: Sequence[str]) -> Iterator[LoadedLibrary]:
    """Yield each library with the distribution whose RECORD lists it, and its namesakes in others."""
    if not paths:
        return
    files = {path: name for name, path in _recorded(host, packages)}
    for path in paths:
        others = (other for other in files if _soname(other) == _soname(path) and other != path)
        yield LoadedLibrary(path, files.get(path, ""), tuple(others))


def _soname(path: str) -> str:
    """Return "libcublas.so.12" for libcublas.so.12.8.4.1, as a file is called where links lead to it."""
    name = path.rpartition("/")[2]
    match = re.match(r"(lib[\w-]+?)(?:-[0-9a-f]{8})?(\.so(?:\.\d+)?)", name)
    return f"{match[1]}{match[2]}" if match else name


def _recorded(host: Host, packages: Packages) -> Iterator[tuple[str, str]]:
    """Yield the name of each distribution that brings CUDA libraries, with the real path of each of them."""
    for each in packages.distributions:
        if not _OWNERS.match(each.name) or not each.file.endswith("/METADATA"):
            continue
        try:
            record = host.read(f"{each.path.rpartition('/')[0]}/RECORD", _RECORD_BYTES)
        except OSError:
            continue
        location = host.realpath(each.location)
        for line in record.decode("utf-8", "replace").splitlines():
            file = line.partition(",")[0]
            if re.search(r"/lib[\w-]+\.so[.\d]*$", file):
                yield each.name, f"{location}/{file}"
