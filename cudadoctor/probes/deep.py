"""The real thing, in a temporary folder: compile, link, run nvcc, and climb the optimisation ladder.

Every command is the consumer's own, shortened to what decides how it ends. It runs in that folder with a
time limit, and with TMPDIR and every cache of the stack pointed into it, so that nothing else is written.
Without a consumer that builds CUDA code here there is nothing to try.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct, structs

from cudadoctor.facts import (
    Compiler,
    Compilers,
    Deep,
    Environ,
    Libraries,
    Machine,
    Packages,
    Selection,
    Target,
    Toolkits,
    Trial,
)
from cudadoctor.host import Host, Ran, which
from cudadoctor.probes.compilers import child_environ
from cudadoctor.simulate.choice import leaves_flashinfer
from cudadoctor.simulate.lines import LinkLine, Scene, link_lines, words

LEVELS = ("-O3", "-O2", "-O1")
TIMEOUT_S = 120.0
#: For all trials together: below what the engine grants the probe.
TOTAL_S = 480.0

_CACHES = (
    "FLASHINFER_WORKSPACE_BASE",
    "TORCH_EXTENSIONS_DIR",
    "TORCHINDUCTOR_CACHE_DIR",
    "TRITON_CACHE_DIR",
    "TVM_FFI_CACHE_DIR",
    "VLLM_CACHE_ROOT",
    "CUDA_CACHE_PATH",
    "XDG_CACHE_HOME",
    "CCACHE_DIR",
    "CCACHE_TEMPDIR",
    "CLANG_CRASH_DIAGNOSTICS_DIR",
)
#: With these set a compiler writes notes wherever they say.
_DIVERSIONS = ("DEPENDENCIES_OUTPUT", "SUNPRO_DEPENDENCIES", "CC_PRINT_OPTIONS", "CC_PRINT_HEADERS")


class _Step(Struct, frozen=True):
    """One command, and the file that it must leave."""

    argv: tuple[str, ...]
    output: str


class _Job(Struct, frozen=True):
    """One trial to be: its commands in order, or why it cannot be tried."""

    name: str
    consumer: str
    steps: tuple[_Step, ...]
    compiler: str = ""
    level: str = ""
    problem: str = ""


class _Plan(Struct, frozen=True):
    """The sources to write, and the ladders to climb: a trial of its own is a ladder of one rung."""

    files: dict[str, str]
    ladders: tuple[tuple[_Job, ...], ...]


class _Bench(Struct, frozen=True):
    """Where and within which limits the commands run."""

    host: Host
    folder: str
    variables: Mapping[str, str]
    timeout_s: float
    deadline: float


def probe(
    host: Host,
    target: Target,
    environ: Environ,
    packages: Packages,
    toolkits: Toolkits,
    compilers: Compilers,
    libraries: Libraries,
    machine: Machine,
    *,
    timeout_s: float = TIMEOUT_S,
) -> Deep:
    """Return how each trial ended; `timeout_s` is for one command."""
    selection = consumer(packages, toolkits, environ)
    if selection is None:
        return Deep(())
    lines = [
        line
        for line in link_lines(Scene(toolkits, compilers, libraries, environ, packages))
        if line.consumer in (selection.consumer, "torch")
    ]
    plan = _plan(host, selection, lines, environ, compilers)
    variables = child_environ(host, environ)
    try:
        with host.temporary(plan.files, variables) as folder:
            deadline = time.monotonic() + TOTAL_S
            bench = _Bench(host, folder, caged(variables, folder), timeout_s, deadline)
            return Deep(_run(bench, plan.ladders, machine.cores))
    except OSError as error:
        reason = f"no temporary folder: {error.filename or ''}: {error.strerror or error}"
        return Deep(tuple(_not_run(ladder[0], reason) for ladder in plan.ladders))


def consumer(packages: Packages, toolkits: Toolkits, environ: Environ) -> Selection | None:
    """Return what the builds are tried for, and with which toolkit: FlashInfer, else torch's builder."""
    if packages.torch is not None and not packages.torch.cuda:
        return None
    if packages.flashinfer is not None and not leaves_flashinfer(packages, toolkits, environ):
        return toolkits.selected("flashinfer")
    return toolkits.selected("torch") if packages.torch is not None else None


def caged(variables: Mapping[str, str], folder: str) -> dict[str, str]:
    """Return `variables` with everything that names a place to write to pointed into `folder`."""
    kept = {name: value for name, value in variables.items() if name not in _DIVERSIONS}
    inside = {name: f"{folder}/{name.lower()}" for name in _CACHES}
    places = dict.fromkeys(("TMPDIR", "TMP", "TEMP"), folder)
    return {**kept, **inside, **places, "CCACHE_DISABLE": "1", "PYTHONDONTWRITEBYTECODE": "1"}


# What is tried


def _plan(
    host: Host, selection: Selection, lines: Sequence[LinkLine], environ: Environ, compilers: Compilers
) -> _Plan:
    files = {"compile.cc": COMPILED, "kernel.cu": KERNEL, "ladder.cc": ladder_source()}
    ladders: list[tuple[_Job, ...]] = [(_compile(selection, environ, compilers),)]
    for line in lines:
        files[f"link_{line.consumer}.cc"] = linked(line)
        ladders.append((_link(line),))
    ladders.append((_nvcc(host, selection, environ, compilers),))
    for number, compiler in enumerate(_host_compilers(host, selection.consumer, compilers)):
        ladders.append(tuple(_rung(selection.consumer, compiler, number, level) for level in LEVELS))
    return _Plan(files, tuple(ladders))


def _compile(selection: Selection, environ: Environ, compilers: Compilers) -> _Job:
    """Compile a host C++ file as the consumer does; folders of CPATH come by that variable."""
    used = compilers.used_by(selection.consumer, "link")
    if used is None:
        return _Job("compile", selection.consumer, (), problem="no host compiler is known")
    # Both leave /usr/include out: named again, it hides the C headers from the C++ library's own.
    include = () if selection.root == "/usr" else ("-isystem", f"{selection.root}/include")
    extra = _extra(selection, environ, "FLASHINFER_EXTRA_CFLAGS")
    flags = ("-std=c++17", "-fPIC", *include, *extra, "-c", "compile.cc", "-o", "compile.o")
    return _with_compiler("compile", selection.consumer, used[1], (_Step(flags, "compile.o"),))


def _link(line: LinkLine) -> _Job:
    stem = f"link_{line.consumer}"
    make = _Step(("-fPIC", "-c", f"{stem}.cc", "-o", f"{stem}.o"), f"{stem}.o")
    join = _Step((f"{stem}.o", *line.flags, "-o", f"{stem}.so"), f"{stem}.so")
    return _with_compiler("link", line.consumer, line.compiler, (make, join))


def _nvcc(host: Host, selection: Selection, environ: Environ, compilers: Compilers) -> _Job:
    """Compile a kernel for an architecture that every toolkit from 11 to 13 knows."""
    variable = "FLASHINFER_NVCC" if selection.consumer == "flashinfer" else "PYTORCH_NVCC"
    named = words(environ.get(variable) or f"{selection.root}/bin/nvcc")
    nvcc = which(host, named[0], environ.path) if named else ""
    if not nvcc:
        return _Job("nvcc", selection.consumer, (), problem=f"{' '.join(named)}: no such program")
    device = compilers.used_by(selection.consumer, "device")
    chosen = environ.get("CC")
    flags = (
        *(("-ccbin", *words(chosen)) if chosen else ()),
        "--compiler-options=-fPIC",
        "-O3",
        "-std=c++17",
        "-gencode=arch=compute_80,code=sm_80",
        *_extra(selection, environ, "FLASHINFER_EXTRA_CUDAFLAGS"),
    )
    argv = (nvcc, *named[1:], *flags, "-c", "kernel.cu", "-o", "kernel.o")
    compiler = device[1].command if device else ""
    return _Job("nvcc", selection.consumer, (_Step(argv, "kernel.o"),), compiler)


def _extra(selection: Selection, environ: Environ, variable: str) -> list[str]:
    return words(environ.get(variable) or "") if selection.consumer == "flashinfer" else []


def _host_compilers(host: Host, name: str, compilers: Compilers) -> list[Compiler]:
    """Return nvcc's host compiler and the one for C++ files, once where both names lead to one program."""
    found: dict[tuple[object, ...], Compiler] = {}
    for job in ("device", "link"):
        if (used := compilers.used_by(name, job)) is not None:
            compiler = used[1]
            program = host.realpath(compiler.path) if compiler.path else compiler.command
            found.setdefault((program, compiler.version, *words(compiler.command)[1:]), compiler)
    return list(found.values())


def _rung(name: str, compiler: Compiler, number: int, level: str) -> _Job:
    output = f"ladder{number}{level}.o"
    step = _Step(("-std=c++17", "-fPIC", level, "-c", "ladder.cc", "-o", output), output)
    return _with_compiler("ladder", name, compiler, (step,), level)


def _with_compiler(
    name: str, consumer: str, compiler: Compiler, steps: tuple[_Step, ...], level: str = ""
) -> _Job:
    """Put the compiler's words before each step's own."""
    if not compiler.path:
        problem = f"{compiler.command or 'the compiler'}: {compiler.problem or 'not found'}"
        return _Job(name, consumer, (), compiler.command, level, problem)
    start = (compiler.path, *words(compiler.command)[1:])
    if compiler.path.rpartition("/")[2] == "sccache" and len(start) > 1:
        start = start[1:]  # it would start a server that stays, and writes elsewhere
    whole = tuple(structs.replace(step, argv=(*start, *step.argv)) for step in steps)
    return _Job(name, consumer, whole, compiler.command, level)


# How it is run


def _run(bench: _Bench, ladders: Sequence[Sequence[_Job]], workers: int) -> tuple[Trial, ...]:
    """Climb the ladders side by side, in daemon threads: an interrupted program does not wait for them."""
    results: list[list[Trial]] = [[] for _ in ladders]
    waiting = iter(range(len(ladders)))
    lock, errors = threading.Lock(), list[BaseException]()

    def work() -> None:
        try:
            while True:
                with lock:
                    index = next(waiting, None)
                if index is None:
                    return
                results[index] += _climb(bench, ladders[index])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(max(1, min(workers, len(ladders))))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return tuple(trial for trials in results for trial in trials)


def _climb(bench: _Bench, jobs: Sequence[_Job]) -> Iterator[Trial]:
    """Yield each rung's trial, down to the first that holds or fails for good."""
    for job in jobs:
        trial = _trial(bench, job)
        yield trial
        if trial.ended in ("ok", "error", "not-run"):
            return


def _trial(bench: _Bench, job: _Job) -> Trial:
    """Run a job's commands until one does not end well."""
    if job.problem:
        return _not_run(job, job.problem)
    started, trial = time.monotonic(), _not_run(job, "nothing to run")
    for step in job.steps:
        left_s = bench.deadline - time.monotonic()
        if left_s <= 0:
            return _not_run(job, f"the trials before it took {TOTAL_S:g} s")
        limit_s = min(bench.timeout_s, left_s)
        ran = bench.host.run(step.argv, bench.variables, cwd=bench.folder, timeout_s=limit_s)
        ended, message = classify(ran, limit_s)
        if ended == "ok" and bench.host.kind(f"{bench.folder}/{step.output}") != "file":
            ended, message = "error", f"it ended well, but left no {step.output}"
        seconds = round(time.monotonic() - started, 2)
        trial = Trial(
            job.name, job.consumer, step.argv, ended, ran.status, message, job.level, job.compiler, seconds
        )
        if ended != "ok":
            break
    return trial


def _not_run(job: _Job, reason: str) -> Trial:
    command = job.steps[-1].argv if job.steps else ()
    return Trial(job.name, job.consumer, command, "not-run", 0, reason, job.level, job.compiler)


# How it ended

#: By what is printed, the first that fits. GCC's driver names the signal that ended cc1plus ("Killed signal
#: terminated program cc1plus", before GCC 8 "Killed (program cc1plus)"), clang's says "unable to execute
#: command: Killed", nvcc's "'cudafe++' died due to signal 9", collect2's "ld terminated with signal 9".
_SIGNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("disk", re.compile(r"No space left on device|Disk quota exceeded")),
    (
        "memory",
        re.compile(
            r"virtual memory exhausted|[Cc]annot allocate memory|out of memory|memory exhausted"
            r"|std::bad_alloc|failed to map segment from shared object"
        ),
    ),
    (
        "killed",
        re.compile(
            r"Killed signal terminated program|Killed \(program |unable to execute command: Killed"
            r"|(?:died due to|terminated with) signal 9\b"
        ),
    ),
    (
        "segfault",
        re.compile(
            r"Segmentation fault signal terminated program|internal compiler error: Segmentation fault"
            r"|unable to execute command: Segmentation fault|(?:died due to|terminated with) signal 11\b"
        ),
    ),
    (
        "crash",
        re.compile(
            r"internal compiler error|signal terminated program|frontend command failed"
            r"|PLEASE submit a bug report|(?:died due to|terminated with) signal"
        ),
    ),
)
_TELLING = re.compile(r"\berror\s*:|\bfatal\b[^:]*:|cannot find|not found")
_ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_KILL, _SEGV, _TERM = 9, 11, 15
_CRASHES = (4, 6, 7, 8)  # SIGILL, SIGABRT, SIGBUS, SIGFPE
_MESSAGE_LIMIT = 400


def classify(ran: Ran, timeout_s: float) -> tuple[str, str]:
    """Return how a command ended, in the words of `Trial.ended`, and the line of its output that tells."""
    if ran.timed_out:
        return "timeout", f"did not end within {timeout_s:g} s"
    if ran.problem:
        # What was started and then stopped by us, for printing without end, has the status of our signal.
        return "error" if ran.status < 0 else "not-run", ran.problem
    if ran.status == 0:
        return "ok", ""
    lines = [line for line in _ESCAPE.sub("", f"{ran.stderr}\n{ran.stdout}").splitlines() if line.strip()]
    for ended, sign in _SIGNS:
        if line := next((line for line in lines if sign.search(line)), ""):
            return ended, _short(line)
    telling = next((line for line in lines if _TELLING.search(line)), lines[0] if lines else "")
    silent = f"signal {-ran.status}" if ran.status < 0 else f"status {ran.status}"
    return _by_status(ran.status), _short(telling) or f"ended by {silent} without a word"


def _by_status(status: int) -> str:
    """Return how a command ended that says nothing of it: a shell adds 128 to the signal's number."""
    signal = -status if status < 0 else status - 128
    if signal in (_KILL, _TERM):
        return "killed"
    if signal == _SEGV:
        return "segfault"
    return "crash" if signal in _CRASHES else "error"


def _short(line: str) -> str:
    line = line.strip()
    return line if len(line) <= _MESSAGE_LIMIT else f"{line[:_MESSAGE_LIMIT]}..."


# The sources

COMPILED = """\
#include <vector>

#include <cuda_runtime_api.h>

int count_devices(std::vector<int>& counts) {
  counts.push_back(0);
  return static_cast<int>(cudaGetDeviceCount(&counts.back()));
}
"""

KERNEL = """\
template <int N>
__global__ void scale(float* values, float factor) {
  int i = blockIdx.x * N + threadIdx.x;
  values[i] = values[i] * factor;
}
template __global__ void scale<128>(float*, float);
"""

#: One function of each library, all of the shape `int name(int*)`.
_FUNCTIONS = {"cudart": "cudaGetDeviceCount", "cuda": "cuDeviceGetCount"}


def linked(line: LinkLine) -> str:
    """Return a source that uses the line's CUDA libraries by prototypes of its own: no header is needed."""
    used = [_FUNCTIONS[name] for name in line.names if name in _FUNCTIONS]
    prototypes = "".join(f'extern "C" int {function}(int*);\n' for function in used)
    calls = "".join(f"  {function}(&n);\n" for function in used)
    return f"{prototypes}int count() {{\n  int n = 0;\n{calls}  return n;\n}}\n"


#: Measured with GCC 11 and 12: at -O3 cc1plus takes between 2 and 4 MiB of stack, 105 MiB of memory and
#: 1.5 s; at -O1 less than 512 KiB of stack. Clang 14 takes 0.5 s and no more stack at -O3 than at -O1.
_CHAIN_LINKS = 1300
_TEMPLATE_DEPTH = 200


def ladder_source() -> str:
    """Return a source that makes an optimiser recurse: deep templates, and a long chain inside a loop.

    The vectoriser follows the chain call by call: what runs out of stack is that recursion, at -O3 only. No
    header is included.
    """
    chain = "".join(f"    t = t * b[i + {link % 64}] + T({link}.5);\n" for link in range(_CHAIN_LINKS))
    return f"""\
template <int N>
struct Tile {{
  template <class T>
  static inline T fold(T x) {{
    return Tile<N - 1>::fold(x * T(3) + T(N)) ^ T(N);
  }}
}};
template <>
struct Tile<0> {{
  template <class T>
  static inline T fold(T x) {{
    return x;
  }}
}};
long tiles(long x) {{ return Tile<{_TEMPLATE_DEPTH}>::fold(x); }}

template <class T>
void chain(T* __restrict a, const T* __restrict b, int n) {{
  for (int i = 0; i < n; ++i) {{
    T t = b[i];
{chain}    a[i] = t;
  }}
}}
template void chain<float>(float* __restrict, const float* __restrict, int);
"""
