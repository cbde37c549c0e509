"""The trials of `--deep` on a machine made in memory: what is run, where, and how its end is told."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest

from cudadoctor.facts import (
    Compiler,
    Compilers,
    CompilerUse,
    Deep,
    Environ,
    Libraries,
    NvccOnPath,
    Packages,
    Target,
    Toolkits,
    Trial,
)
from cudadoctor.host import Ran
from cudadoctor.probes import deep
from cudadoctor.testing import FakeHost
from tests.checks.build import CUDA, PREFIX, SITE, environ, machine, no_toolkits, packages, toolkits

FOLDER = "/tmp/cudadoctor-fake"
NVCC = f"{CUDA}/bin/nvcc"
TARGET = Target(PREFIX, "venv", f"{PREFIX}/bin/python", "3.12", "/usr", (SITE,), "", "VIRTUAL_ENV", True)


class Bench(FakeHost):
    """A machine whose compilers leave the file they are asked for, unless the test has its own answer."""

    def __init__(self, answers: Mapping[str, Ran] | None = None, **variables: str) -> None:
        programs = dict.fromkeys(("/usr/bin/g++", "/usr/bin/c++", NVCC), self.compile)
        super().__init__(environ=variables, programs=programs)
        self.answers = dict(answers or {})
        self.ran: list[tuple[str, ...]] = []
        self.variables: Mapping[str, str] = {}

    def compile(self, argv: Sequence[str], variables: Mapping[str, str]) -> Ran:
        self.ran.append(tuple(argv))
        self.variables = variables
        answer = next((ran for mark, ran in self.answers.items() if mark in " ".join(argv)), Ran(0, "", ""))
        if answer.status == 0:
            self._plant(f"{FOLDER}/{argv[list(argv).index('-o') + 1]}", b"\x7fELF")
        return answer


def compilers(link: str = "c++", device: str = "g++") -> Compilers:
    found = {name: Compiler(name, f"/usr/bin/{name}", "gcc", "12.2.0") for name in (link, device)}
    uses = [CompilerUse(who, "link", link, "") for who in ("flashinfer", "torch")]
    uses += [CompilerUse(who, "device", device, "") for who in ("flashinfer", "torch")]
    return Compilers(found, tuple(uses))


def look(
    host: FakeHost,
    packages_: Packages | None = None,
    toolkits_: Toolkits | None = None,
    compilers_: Compilers | None = None,
    environ_: Environ | None = None,
    cores: int = 2,
) -> Deep:
    return deep.probe(
        host,
        TARGET,
        environ_ or environ(),
        packages_ or packages(),
        toolkits_ or toolkits(),
        compilers_ or compilers(),
        Libraries({}, ()),
        machine(cores=cores),
    )


def named(found: Deep, name: str, consumer: str = "flashinfer") -> Trial:
    return next(trial for trial in found.trials if (trial.name, trial.consumer) == (name, consumer))


def test_a_healthy_machine_passes_every_trial_at_the_first_level() -> None:
    found = look(Bench())
    assert [(t.name, t.consumer, t.level, t.ended) for t in found.trials] == [
        ("compile", "flashinfer", "", "ok"),
        ("link", "flashinfer", "", "ok"),
        ("link", "torch", "", "ok"),
        ("nvcc", "flashinfer", "", "ok"),
        ("ladder", "flashinfer", "-O3", "ok"),
        ("ladder", "flashinfer", "-O3", "ok"),
    ]


def test_the_commands_are_the_consumer_s_own() -> None:
    variables = environ(
        CC="gcc -m64",
        FLASHINFER_EXTRA_CFLAGS="-DX='a b'",
        FLASHINFER_EXTRA_CUDAFLAGS="-lineinfo",
        FLASHINFER_EXTRA_LDFLAGS="-L/more",
    )
    found = look(Bench(), environ_=variables)
    include = ("-isystem", f"{CUDA}/include")
    assert named(found, "compile").command == (
        "/usr/bin/c++", "-std=c++17", "-fPIC", *include, "-DX=a b", "-c", "compile.cc", "-o", "compile.o",
    )  # fmt: skip
    assert named(found, "link").command == (
        "/usr/bin/c++", "link_flashinfer.o", "-shared", f"-L{CUDA}/lib64", f"-L{CUDA}/lib64/stubs",
        "-lcudart", "-lcuda", "-L/more", "-o", "link_flashinfer.so",
    )  # fmt: skip
    assert named(found, "nvcc").command == (
        NVCC, "-ccbin", "gcc", "-m64", "--compiler-options=-fPIC", "-O3", "-std=c++17",
        "-gencode=arch=compute_80,code=sm_80", "-lineinfo", "-c", "kernel.cu", "-o", "kernel.o",
    )  # fmt: skip
    assert f"-L{SITE}/torch/lib" in named(found, "link", "torch").command


def test_usr_is_not_named_as_an_include_folder_again() -> None:
    found = look(Bench(), toolkits_=toolkits(root="/usr"))
    assert "-isystem" not in named(found, "compile").command


def test_a_flashinfer_that_vllm_leaves_alone_is_not_built_for() -> None:
    found = look(Bench(), packages(vllm="0.12.0"))
    assert {trial.consumer for trial in found.trials} == {"torch"}
    on_path = toolkits(nvcc_on_path=NvccOnPath(NVCC, "binary"))
    assert named(look(Bench(), packages(vllm="0.12.0"), on_path), "link").ended == "ok"


def test_without_flashinfer_torch_s_builder_is_tried() -> None:
    found = look(Bench(), packages(flashinfer=""), environ_=environ(FLASHINFER_EXTRA_CFLAGS="-g"))
    assert [(t.name, t.consumer) for t in found.trials][:3] == [
        ("compile", "torch"), ("link", "torch"), ("nvcc", "torch"),
    ]  # fmt: skip
    assert "-g" not in named(found, "compile", "torch").command


@pytest.mark.parametrize(
    ("installed", "kits"),
    [
        (packages(torch="", flashinfer=""), None),
        (packages(cuda=""), None),
        (packages(), no_toolkits()),
    ],
)
def test_where_nothing_compiles_nothing_is_tried(installed: Packages, kits: Toolkits | None) -> None:
    host = Bench()
    assert look(host, installed, kits) == Deep(()) and not host.ran


def test_everything_that_is_written_goes_into_the_folder_and_the_folder_goes() -> None:
    host = Bench(HOME="/home/ada", DEPENDENCIES_OUTPUT="/home/ada/deps", TRITON_CACHE_DIR="/home/ada/t")
    look(host)
    for name in (
        "TMPDIR", "TMP", "TEMP", "FLASHINFER_WORKSPACE_BASE", "TORCH_EXTENSIONS_DIR", "TRITON_CACHE_DIR",
        "TVM_FFI_CACHE_DIR", "VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR", "CUDA_CACHE_PATH",
        "XDG_CACHE_HOME", "CCACHE_DIR",
    ):  # fmt: skip
        assert f"{host.variables[name]}/".startswith(f"{FOLDER}/"), name
    assert host.variables["PYTHONDONTWRITEBYTECODE"] == "1" and host.variables["CCACHE_DISABLE"] == "1"
    assert "DEPENDENCIES_OUTPUT" not in host.variables
    assert host.variables["LC_ALL"] == "C" and host.variables["HOME"] == "/home/ada"
    assert host.kind(FOLDER) == ""


def test_two_names_of_one_compiler_climb_once() -> None:
    found = look(Bench(), compilers_=compilers("c++", "c++"))
    assert [t.compiler for t in found.trials if t.name == "ladder"] == ["c++"]


def failing(level: str, status: int, stderr: str) -> dict[str, Ran]:
    return {f"{level} -c ladder.cc": Ran(status, "", stderr)}


def test_the_ladder_is_climbed_down_to_the_first_level_that_passes() -> None:
    crash = "g++: internal compiler error: Segmentation fault signal terminated program cc1plus\n"
    host = Bench({**failing("-O3", 4, crash), **failing("-O2", 4, crash)})
    rungs = [t for t in look(host, compilers_=compilers("g++", "g++")).trials if t.name == "ladder"]
    assert [(t.level, t.ended, t.status) for t in rungs] == [
        ("-O3", "segfault", 4), ("-O2", "segfault", 4), ("-O1", "ok", 0),
    ]  # fmt: skip
    assert rungs[0].message == crash.strip()


def test_a_diagnostic_ends_the_climb() -> None:
    host = Bench(failing("-O3", 1, "g++: error: unrecognized command-line option '-std=c++17'\n"))
    rungs = [t for t in look(host, compilers_=compilers("g++", "g++")).trials if t.name == "ladder"]
    assert [(t.level, t.ended) for t in rungs] == [("-O3", "error")]


GCC = "g++: internal compiler error: "
ENDED = "signal terminated program cc1plus"
ENDS = [
    # GCC 11 and 12, from runs with the limit named
    (4, "", f"{GCC}Segmentation fault {ENDED}\nPlease submit a full bug", "segfault"),
    (1, "", "x.cc:9:1: internal compiler error: Segmentation fault\n0xb4 crash_signal\n", "segfault"),
    (1, "", f"g++: fatal error: Killed {ENDED}\ncompilation terminated.\n", "killed"),
    (4, "", f"{GCC}Killed (program cc1plus)\n", "killed"),
    (1, "", "virtual memory exhausted: Cannot allocate memory\n", "memory"),
    (1, "", "\ncc1plus: out of memory allocating 2816 bytes after a total of 62889984 bytes\n", "memory"),
    (1, "", "x.cc:4:76: fatal error: error writing to /f/cc1.s: No space left on device\n", "disk"),
    (1, "", "x.cc:1:1: internal compiler error: in tsubst, at cp/pt.c:15310\n", "crash"),
    (4, "", f"{GCC}Aborted {ENDED}\n", "crash"),
    (1, "", "x.cc:3:10: fatal error: cuda_runtime_api.h: No such file or directory\n", "error"),
    # Clang 14
    (-11, "", "", "segfault"),
    (139, "", "", "segfault"),
    (254, "", "clang: error: unable to execute command: Segmentation fault (core dumped)\n", "segfault"),
    (254, "", "clang: error: unable to execute command: Killed\n", "killed"),
    (-9, "", "", "killed"),
    (127, "", "clang: error while loading shared libraries: libLLVM-14.so.1: "
     "failed to map segment from shared object\n", "memory"),
    (134, "", "LLVM ERROR: out of memory\nPLEASE submit a bug report to\n", "memory"),
    (70, "", "fatal error: error in backend: IO failure on output stream: No space left on device\n"
     "PLEASE submit a bug report to\n", "disk"),
    (134, "", "clang: x.cpp:1: f(): Assertion `n' failed.\nPLEASE submit a bug report to\n", "crash"),
    # nvcc, ld, collect2, as; and shells
    (9, "nvcc error   : 'cicc' died due to signal 9 (Kill signal)\n", "", "killed"),
    (11, "", "nvcc error   : 'ptxas' died due to signal 11 (Invalid memory reference)\n", "segfault"),
    (6, "", "nvcc error   : 'cudafe++' died due to signal 6\n", "crash"),
    (1, "", "nvcc fatal   : Unsupported gpu architecture 'compute_80'\n", "error"),
    (1, "", "collect2: fatal error: ld terminated with signal 9 [Killed]\n", "killed"),
    (1, "", "/usr/bin/ld: final link failed: No space left on device\n", "disk"),
    (1, "", "/usr/bin/ld: skipping incompatible /l/libcuda.so\n/usr/bin/ld: cannot find -lcuda\n", "error"),
    (137, "", "", "killed"),
    (-6, "", "", "crash"),
    (3, "", "", "error"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "stdout", "stderr", "ended"), ENDS)
def test_every_end_is_told_from_the_others(status: int, stdout: str, stderr: str, ended: str) -> None:
    host = Bench({"compile.cc": Ran(status, stdout, stderr)})
    trial = named(look(host), "compile")
    assert (trial.ended, trial.status) == (ended, status)
    assert trial.message and (trial.message in stdout + stderr or trial.message.endswith("without a word"))


def test_the_line_that_tells_is_shown() -> None:
    said = "ld: skipping incompatible /l/libcuda.so\n/usr/bin/ld: cannot find -lcuda\ncollect2: error: 1\n"
    assert deep.classify(Ran(1, "", said), 9)[1] == "/usr/bin/ld: cannot find -lcuda"
    coloured = "x.cc:1:1: \x1b[01;31m\x1b[Kerror: \x1b[m\x1b[Kexpected ';'\n"
    assert deep.classify(Ran(1, "", coloured), 9)[1].startswith("x.cc:1:1: error: ")
    assert len(deep.classify(Ran(1, "", "error: " + "x" * 10_000), 9)[1]) < 500


def test_time_outs_floods_and_programs_that_do_not_start() -> None:
    assert deep.classify(Ran(-9, "", "", timed_out=True), 120) == ("timeout", "did not end within 120 s")
    assert deep.classify(Ran(-9, "", "", problem="printed more than 4 MiB"), 120)[0] == "error"
    assert deep.classify(Ran(127, "", "", problem="Exec format error"), 120) == (
        "not-run",
        "Exec format error",
    )
    assert deep.classify(Ran(0, "", "warning: internal compiler error"), 120)[0] == "ok"


def test_a_compiler_that_leaves_no_file_is_none() -> None:
    class Idle(Bench):
        def compile(self, argv: Sequence[str], variables: Mapping[str, str]) -> Ran:
            return Ran(0, "", "")

    trial = named(look(Idle()), "compile")
    assert (trial.ended, trial.message) == ("error", "it ended well, but left no compile.o")


def test_a_link_that_fails_in_its_object_file_shows_that_command() -> None:
    trial = named(look(Bench({"link_flashinfer.cc": Ran(1, "", "error: no\n")})), "link")
    assert trial.command[-4:] == ("-c", "link_flashinfer.cc", "-o", "link_flashinfer.o")


def test_a_missing_compiler_and_a_missing_nvcc_are_not_run() -> None:
    missing = Compilers(
        {"g++-99": Compiler("g++-99", "", problem="not found on PATH")},
        tuple(CompilerUse("flashinfer", job, "g++-99", "CXX") for job in ("link", "device")),
    )
    found = look(Bench(), compilers_=missing, toolkits_=toolkits(root="/opt/none"))
    assert {trial.ended for trial in found.trials} == {"not-run"}
    assert named(found, "compile").message == "g++-99: not found on PATH"
    assert named(found, "nvcc").message == "/opt/none/bin/nvcc: no such program"
    assert [trial.name for trial in found.trials].count("ladder") == 1


def test_without_a_temporary_folder_nothing_is_run_and_the_reason_is_told() -> None:
    class Full(Bench):
        @contextmanager
        def temporary(self, files: Mapping[str, str], environ: Mapping[str, str]) -> Iterator[str]:
            raise OSError(errno.ENOSPC, "No space left on device", "/full/cudadoctor-1")
            yield ""

    host = Full()
    found = look(host)
    assert not host.ran and len(found.trials) == 6
    assert {(t.ended, t.message) for t in found.trials} == {
        ("not-run", "no temporary folder: /full/cudadoctor-1: No space left on device")
    }


@pytest.mark.parametrize("cores", [1, 3])
def test_no_more_run_at_a_time_than_there_are_cores(cores: int) -> None:
    lock = threading.Lock()

    class Slow(Bench):
        running = most = 0

        def compile(self, argv: Sequence[str], variables: Mapping[str, str]) -> Ran:
            with lock:
                self.running += 1
                self.most = max(self.most, self.running)
            time.sleep(0.02)
            with lock:
                self.running -= 1
                return super().compile(argv, variables)

    host = Slow()
    assert [t.ended for t in look(host, cores=cores).trials] == ["ok"] * 6
    assert host.most == cores


def test_what_is_left_over_when_the_time_for_all_is_spent_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep, "TOTAL_S", 0.0)
    host = Bench()
    assert {trial.ended for trial in look(host).trials} == {"not-run"} and not host.ran


def test_a_server_that_would_stay_is_not_started() -> None:
    path = "/usr/bin/sccache"
    cached = Compiler("sccache g++", path, "gcc", "12.2.0")
    uses = tuple(CompilerUse("flashinfer", job, "sccache g++", "CXX") for job in ("link", "device"))
    found = look(Bench(), compilers_=Compilers({"sccache g++": cached}, uses))
    assert named(found, "compile").command[0] == "g++"


def test_the_sources_need_no_header_but_the_one_that_is_tried() -> None:
    assert "#include" not in deep.ladder_source() + deep.KERNEL
    assert deep.COMPILED.count("cuda_runtime_api.h") == 1
