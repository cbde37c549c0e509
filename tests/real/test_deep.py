"""The trials of `--deep` with the real compiler, on a machine where one thing at a time is really wrong.

A toolkit is made for each test: its header and its two libraries are real, its nvcc only leaves a file.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from cudadoctor import engine
from cudadoctor.facts import (
    Compilers,
    Deep,
    Environ,
    Facts,
    FlashInfer,
    Libraries,
    Machine,
    Packages,
    Selection,
    Target,
    Toolkits,
    Trial,
)
from cudadoctor.host import RealHost
from cudadoctor.probes import compilers as compilers_probe
from cudadoctor.probes import deep
from cudadoctor.probes import environ as environ_probe
from cudadoctor.probes import libraries as libraries_probe
from cudadoctor.probes import machine as machine_probe
from cudadoctor.probes.target import Request
from cudadoctor.testing import judge

Make = Callable[..., "Patient"]
LDFLAGS = ("-shared", "-L$cuda_home/lib64", "-L$cuda_home/lib64/stubs", "-lcudart", "-lcuda")
LEVELS = ["-O3", "-O2", "-O1"]


class Patient:
    """A FlashInfer with the toolkit at `root`, launched with `variables`."""

    def __init__(self, root: Path, variables: Mapping[str, str]) -> None:
        self.root, self.variables = root, dict(variables)

    def facts(self) -> Facts:
        host = RealHost(self.variables)
        root = str(self.root)
        target = Target(root, "venv", "", "3.12", "", (), "", "VIRTUAL_ENV", True)
        packages = Packages((), None, FlashInfer("0.6.4", LDFLAGS, "cpp_ext.py"))
        toolkits = Toolkits((), (Selection("flashinfer", root, "CUDA_HOME", True, True),), {})
        environ = environ_probe.probe(host, target)
        compilers = compilers_probe.probe(host, environ, packages)
        machine = machine_probe.probe(host)
        libraries = libraries_probe.probe(host, environ, packages, toolkits, compilers, machine)
        return Facts(
            target, environ, packages, Facts().conda, toolkits, compilers, Facts().tools, libraries, machine
        )

    def deep(self, timeout_s: float = 60) -> Deep:
        """Run the trials in this process."""
        facts = self.facts()
        assert isinstance(facts.target, Target) and isinstance(facts.environ, Environ)
        assert isinstance(facts.packages, Packages) and isinstance(facts.toolkits, Toolkits)
        assert isinstance(facts.compilers, Compilers) and isinstance(facts.machine, Machine)
        assert isinstance(facts.libraries, Libraries)
        return deep.probe(
            RealHost(self.variables),
            facts.target,
            facts.environ,
            facts.packages,
            facts.toolkits,
            facts.compilers,
            facts.libraries,
            facts.machine,
            timeout_s=timeout_s,
        )

    def elsewhere(self, *before: str, limits: Callable[[], None] | None = None) -> Facts:
        """Run the trials in a process of their own, with its own limits, and return all facts."""
        command = [
            *before,
            sys.executable,
            "-m",
            "tests.real.test_deep",
            str(self.root),
            json.dumps(self.variables),
        ]
        done = subprocess.run(command, preexec_fn=limits, capture_output=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return msgspec.json.decode(done.stdout, type=Facts)


def main(root: str, variables: str) -> None:
    """Print the facts of a patient, trials included: the other half of `elsewhere`."""
    patient = Patient(Path(root), json.loads(variables))
    facts = msgspec.structs.replace(patient.facts(), deep=patient.deep())
    sys.stdout.buffer.write(msgspec.json.encode(facts))


def script(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def make(gxx: str, tmp_path: Path) -> Make:
    """Return `make(**variables)`: a healthy patient with these variables."""
    root, empty = tmp_path / "cuda", tmp_path / "empty.c"
    empty.touch()
    (root / "include").mkdir(parents=True)
    (root / "lib64/stubs").mkdir(parents=True)
    (root / "include/cuda_runtime_api.h").write_text('extern "C" int cudaGetDeviceCount(int*);\n')
    for library in ("libcudart.so", "stubs/libcuda.so"):
        subprocess.run([gxx, "-shared", "-o", root / "lib64" / library, empty], check=True)
    script(root / "bin/nvcc", 'printf x >"${@: -1}"')
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    (tmp_path / "tmp").mkdir()

    def patient(**variables: str) -> Patient:
        return Patient(root, {**kept, "TMPDIR": str(tmp_path / "tmp"), **variables})

    return patient


def trials(found: Deep | Facts, name: str) -> list[Trial]:
    section = found.deep if isinstance(found, Facts) else found
    assert isinstance(section, Deep)
    return [trial for trial in section.trials if trial.name == name]


def ends(found: Deep | Facts, name: str = "ladder") -> list[str]:
    return [trial.ended for trial in trials(found, name)]


def lowered(kind: int, bytes_: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (bytes_, bytes_))


def test_on_a_healthy_machine_all_trials_pass_and_nothing_is_left(make: Make, tmp_path: Path) -> None:
    found = make().deep()
    assert [(t.name, t.level, t.ended) for t in found.trials] == [
        ("compile", "", "ok"), ("link", "", "ok"), ("nvcc", "", "ok"), ("ladder", "-O3", "ok"),
    ], found  # fmt: skip
    assert trials(found, "ladder")[0].seconds < 20
    assert not list((tmp_path / "tmp").iterdir())


def test_the_ladder_takes_little_memory(tmp_path: Path, gxx: str) -> None:
    (tmp_path / "ladder.cc").write_text(deep.ladder_source())
    process = subprocess.Popen([gxx, "-std=c++17", "-O3", "-c", "ladder.cc"], cwd=tmp_path)
    _, process.returncode, usage = os.wait4(process.pid, 0)
    assert process.returncode == 0 and usage.ru_maxrss < 512 << 10  # KiB


@pytest.mark.parametrize("gone", ["cudart", "cuda"])
def test_a_missing_library_fails_the_link_as_ld_says_it(make: Make, gone: str) -> None:
    patient = make()
    next(patient.root.glob(f"lib64/**/lib{gone}.so")).unlink()
    (link,) = trials(patient.deep(), "link")
    assert link.ended == "error" and f"cannot find -l{gone}" in link.message


def test_a_missing_header_fails_the_compile_alone(make: Make) -> None:
    patient = make()
    (patient.root / "include/cuda_runtime_api.h").unlink()
    found = patient.deep()
    (compile_,) = trials(found, "compile")
    assert compile_.ended == "error" and "cuda_runtime_api.h: No such file" in compile_.message
    assert ends(found, "link") == ["ok"]


def test_a_low_hard_stack_limit_crashes_the_highest_level_only(make: Make) -> None:
    facts = make().elsewhere(limits=lowered(resource.RLIMIT_STACK, 1 << 20))
    rungs = trials(facts, "ladder")
    assert rungs[0].ended == "segfault" and rungs[0].status == 4 and rungs[0].level == "-O3"
    assert "Segmentation fault signal terminated program cc1plus" in rungs[0].message
    assert rungs[-1].ended == "ok" and rungs[-1].level in ("-O2", "-O1")
    (finding,) = judge("host-compiler-crash", facts).findings
    assert "the hard stack limit is only 1024 KiB" in finding.summary
    assert [remedy.fix for remedy in finding.remedies] == ["stack-limit"]


def test_a_low_soft_stack_limit_harms_nothing(make: Make) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    facts = make().elsewhere(limits=lambda: resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, hard)))
    assert ends(facts) == ["ok"]


def test_a_killed_compiler_is_told_from_one_that_crashes(make: Make, gxx: str, tmp_path: Path) -> None:
    script(tmp_path / "b/cc1plus", "kill -KILL $$")
    wrapper = script(tmp_path / "killed-g++", f'exec {gxx} -B{tmp_path}/b/ "$@"')
    found = make(CXX=wrapper, CC=wrapper).deep()
    assert [(t.level, t.ended) for t in trials(found, "ladder")] == [(level, "killed") for level in LEVELS]
    assert ends(found, "compile") == ends(found, "link") == ["killed"]


def test_a_limit_on_memory_is_told_from_a_kill(make: Make, gxx: str, tmp_path: Path) -> None:
    wrapper = script(tmp_path / "small-g++", f'ulimit -v 100000; exec {gxx} "$@"')
    found = make(CXX=wrapper, CC=wrapper).deep()
    assert ends(found)[0] == "memory", found
    assert ends(found, "compile") == ["ok"]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Return `mount(size)`, which makes a file system of that size; skip where that is not allowed."""
    place = tmp_path / "mounted"
    place.mkdir()
    mounted = []

    def at(size: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("a full disk needs the right to mount a tmpfs")
        mounted.append(place)
        return place

    yield at
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_told_from_a_broken_compiler(make: Make, mount: Callable[[str], Path]) -> None:
    found = make(TMPDIR=str(mount("128k"))).deep()
    assert ends(found) == ["disk"] * 3
    assert all("No space left on device" in trial.message for trial in trials(found, "ladder"))


def test_a_disk_too_full_to_begin_is_reported_once(make: Make, mount: Callable[[str], Path]) -> None:
    place = mount("16k")
    facts = make(TMPDIR=str(place)).elsewhere()
    assert {trial.ended for trial in trials(facts, "ladder") + trials(facts, "link")} == {"not-run"}
    (finding,) = judge("host-compiler-crash", facts).findings
    assert "no space is left" in finding.summary and not list(place.iterdir())


def test_a_compiler_that_hangs_is_killed_with_its_children(make: Make, tmp_path: Path) -> None:
    wrapper = script(tmp_path / "slow", f"sleep 300 & echo $! >>{tmp_path}/pids; wait")
    started = time.monotonic()
    found = make(CXX=wrapper, CC=wrapper).deep(timeout_s=0.5)
    assert time.monotonic() - started < 20
    assert ends(found) == ["timeout"] * 3 and ends(found, "link") == ["timeout"]
    assert trials(found, "compile")[0].message == "did not end within 0.5 s"
    for pid in (tmp_path / "pids").read_text().split():
        patience = time.monotonic() + 5
        while alive(pid) and time.monotonic() < patience:
            time.sleep(0.02)
        assert not alive(pid)


def alive(pid: str) -> bool:
    """Return whether a process still runs: a killed one may wait for its parent as a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def test_endless_output_ends(make: Make, tmp_path: Path) -> None:
    wrapper = script(tmp_path / "loud", "yes error: >&2")
    found = make(CXX=wrapper, CC=wrapper).deep(timeout_s=30)
    assert ends(found, "compile") == ["error"] and "printed more than" in trials(found, "compile")[0].message


def test_what_is_no_compiler_is_told(make: Make, tmp_path: Path) -> None:
    found = make(CXX="true", CC="true").deep()
    assert trials(found, "compile")[0].message == "it ended well, but left no compile.o"
    text = tmp_path / "notes"
    text.write_text("this is no program\n")
    text.chmod(0o755)
    found = make(CXX=str(text), CC="/nowhere/gcc").deep()
    assert ends(found, "compile") == ["not-run"] and ends(found) == ["not-run", "not-run"]


def test_clang_climbs_the_same_ladder(make: Make) -> None:
    names = [f"clang++{tail}" for tail in ("", *(f"-{major}" for major in range(21, 10, -1)))]
    clang = next(filter(None, map(shutil.which, names)), None)
    if clang is None:
        pytest.skip("no clang++ is on PATH")
    found = make(CXX=clang, CC=clang).deep()
    assert [(t.name, t.ended) for t in found.trials if t.name != "nvcc"] == [
        ("compile", "ok"), ("link", "ok"), ("ladder", "ok"),
    ], found  # fmt: skip


CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)")
FORKS = ("clone", "clone3", "fork", "vfork")
CHANGES = re.compile(r"creat|mkdir|mknod|rmdir|unlink|rename|link|symlink|truncate|chmod|[lf]?chown|u?time")


def root_of(log: Path) -> str:
    """Return the number of the process that strace started: no other's child; numbers begin anew at times."""
    texts = {file.name.partition(".")[2]: file.read_text(errors="replace") for file in log.iterdir()}
    calls = [call for text in texts.values() for call in map(CALL.match, text.splitlines()) if call]
    (first,) = set(texts) - {call[3] for call in calls if call[1] in FORKS}
    return first


def written(log: Path, pid: str, folder: str) -> Iterator[str]:
    """Yield the paths that this process and its children made, changed or removed, by strace's logs."""
    for line in (log / f"s.{pid}").read_text(errors="replace").splitlines():
        call = CALL.match(line)
        if call is None or call[3] == "-1":
            continue
        name, arguments = call[1], call[2]
        names = re.findall(r'"((?:[^"\\]|\\.)*)"', arguments)
        if name in FORKS:
            yield from written(log, call[3], folder)
        elif name == "chdir":
            folder = os.path.join(folder, names[0])
        elif re.search("O_WRONLY|O_RDWR|O_CREAT", arguments) or CHANGES.match(name):
            opened = re.search(r"^\d+<([^>]*)>", arguments)
            yield from (os.path.join(opened[1] if opened else folder, path) for path in names)


def test_nothing_is_written_outside_the_folder(make: Make, tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not on PATH")
    log, home = tmp_path / "log", tmp_path / "home"
    log.mkdir()
    home.mkdir()
    traced = "trace=%file,clone,clone3,fork,vfork"
    before = (
        strace,
        "-ff",
        "-y",
        "-s",
        "4096",
        "-o",
        f"{log}/s",
        "-e",
        traced,
        "env",
        "PYTHONDONTWRITEBYTECODE=1",
    )
    facts = make(HOME=str(home)).elsewhere(*before)
    assert set(ends(facts)) == {"ok"}
    paths = set(written(log, root_of(log), os.getcwd()))
    inside = str(tmp_path / "tmp/cudadoctor-")
    for name in ("ladder.cc", "ladder0-O3.o", "link_flashinfer.so", "kernel.o"):
        assert any(path.startswith(inside) and path.endswith(f"/{name}") for path in paths), name
    assert not {path for path in paths if not path.startswith((inside, "/dev/", "/proc/self/"))}


@pytest.mark.stack
def test_the_trials_of_a_real_flashinfer() -> None:
    prefix = os.environ.get("CUDADOCTOR_STACK")
    if not prefix:
        pytest.skip("CUDADOCTOR_STACK names no environment")
    variables = {**os.environ, "VIRTUAL_ENV": prefix, "PATH": f"{prefix}/bin:{os.environ['PATH']}"}
    facts = engine.collect(RealHost(variables), set(engine.PROBES), Request(deep=True))
    assert isinstance(facts.deep, Deep), facts.deep
    assert {trial.name for trial in facts.deep.trials} == {"compile", "link", "nvcc", "ladder"}
    assert ends(facts)[-1] == "ok"
    for library in ("cudart", "cuda"):
        modelled = judge(f"{'libcuda' if library == 'cuda' else library}-link-missing", facts).findings
        real = [
            t for t in trials(facts, "link") if t.message.endswith(f"-l{library}: No such file or directory")
        ]
        assert bool(modelled) >= bool(real), (library, modelled, real)


if __name__ == "__main__":
    main(*sys.argv[1:])
