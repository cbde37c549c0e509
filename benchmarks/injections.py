"""Kills and errors at every step of a repair: `python -m benchmarks.injections [--only CALL] [--jobs N]`.

A small environment is repaired by the real program under strace, which kills it, or lets a system call fail,
at the first, the second, ... call of each kind that can write to the environment, to its journal or to a
cache. After each the environment is looked at, taken back on one copy and completed on another: both have to
be what they would be had nothing happened. Exits 1 where something was lost.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from msgspec import Struct

from cudadoctor.actions import Export
from cudadoctor.exports import files
from cudadoctor.host import RealHost
from cudadoctor.journal import read_runs
from cudadoctor.places import IN_PREFIX, in_state

#: Every call that can change a file, its name or its mode, or lock it, and the one that opens folders.
CALLS = (
    "openat", "mkdir", "mkdirat", "rmdir", "symlink", "symlinkat", "link", "linkat", "rename", "renameat",
    "renameat2", "unlink", "unlinkat", "write", "pwrite64", "fsync", "fdatasync", "ftruncate", "fchmod",
    "fchmodat", "fchown", "fchownat", "utimensat", "flock",
)  # fmt: skip
#: "+": not this call alone but every later one of its kind too, as on a disk that is full and stays so.
ERRORS = ("ENOSPC", "EIO", "EACCES", "EROFS", "ENOSPC+", "EIO+", "EACCES+", "EROFS+")
NAMES = ("jit-caches", "cuda-home", "dangling-cuda-links", "libcuda-link-missing")
ARGUMENTS = {
    "apply": ("fix", *NAMES, "--apply"),
    "undo": ("undo",),
    "resume": ("fix", "--resume"),
}

ELF_LIBRARY = ("gcc", "-shared", "-nostdlib", "-x", "c", "/dev/null", "-o")


def make_environment(root: Path) -> None:
    """Make `root`/env, `root`/home and FlashInfer's cache, broken in as many ways as there are repairs.

    A repair of it makes folders and links, turns and removes links, writes files anew and over others, and
    moves a folder aside that is not in the environment.
    """
    env = root / "env"
    for folder in ("bin", "include", "lib/stubs", "nvvm/bin", "conda-meta", "etc/conda/activate.d"):
        (env / folder).mkdir(parents=True)
    for program in ("bin/python3", "bin/nvcc", "nvvm/bin/cicc"):
        shutil.copy("/bin/true", env / program)  # a binary, as nvcc is: a script would stand for another
    for header in ("cuda_runtime.h", "cuda_runtime_api.h"):
        (env / "include" / header).write_text("#define CUDART_VERSION 12080\n")
    (env / "include/cuda.h").write_text("#define CUDA_VERSION 12080\n")
    (env / "conda-meta/history").touch()
    for name in ("cuda-nvcc", "cuda-cudart-dev", "cuda-version"):
        record = f'{{"name": "{name}", "version": "12.8.90", "build": "0", "files": [], "channel": "nvidia"}}'
        (env / f"conda-meta/{name}-12.8.90-0.json").write_text(record)
    library = env / "lib/libcudart.so.12"
    subprocess.run([*ELF_LIBRARY, str(library), "-Wl,-soname,libcudart.so.12"], check=True)
    (env / "lib/libcudart.so").symlink_to("libcudart.so.12")
    shutil.copy(library, env / "lib/stubs/libcuda.so")
    shutil.copy(library, env / "lib/libnvrtc.so.12")
    (env / "lib/libnvrtc.so").symlink_to("/gone/libnvrtc.so.12.4")
    (env / "lib/libcublas.so").symlink_to("/gone/libcublas.so.12")
    _packages(env / "lib/python3.11/site-packages")
    _operator(root / "cache/.cache/flashinfer/0.5.3/90a/cached_ops/silu_and_mul", root)
    (root / "home").mkdir()
    _activation(env)


def add_links(root: Path, number: int) -> None:
    """Break so many links more, to libraries that have a newer number now."""
    for name in ("cufft", "curand", "cusolver", "cusparse", "nvJitLink", "nvjpeg", "npp", "cupti")[:number]:
        shutil.copy(root / "env/lib/libcudart.so.12", root / f"env/lib/lib{name}.so.12")
        (root / f"env/lib/lib{name}.so").symlink_to(f"/gone/lib{name}.so.12.4")


def variables(root: Path) -> dict[str, str]:
    """Return the variables that every command gets."""
    return {
        "PATH": f"{root}/env/bin:/usr/bin:/bin",
        "HOME": f"{root}/home",
        "CUDA_HOME": f"{root}/wrong",
        "FLASHINFER_WORKSPACE_BASE": f"{root}/cache",
        "MAX_JOBS": "4",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }


def _packages(site: Path) -> None:
    for name, version in (("torch", "2.9.0+cu128"), ("flashinfer_python", "0.5.3")):
        folder = site / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n")
    (site / "torch").mkdir()
    (site / "torch/version.py").write_text("__version__ = '2.9.0+cu128'\ncuda = '12.8'\n")


def _operator(folder: Path, root: Path) -> None:
    """Make an operator that was built with the wrong CUDA_HOME."""
    folder.mkdir(parents=True)
    (folder / "build.ninja").write_text(
        f"name = {folder.name}\ncuda_home = {root}/wrong\ncxx = c++\nnvcc = $cuda_home/bin/nvcc\n"
        "cflags = -O3\ncuda_cflags = -O3\nldflags = -shared -lcudart\n\nrule compile\n"
    )
    (folder / f"{folder.name}.so").write_bytes(b"\x7fELF")


def _activation(env: Path) -> None:
    """Write activation files as an earlier repair would have, of which two are gone since."""
    made = files("conda", str(env), [Export("MAX_JOBS", "4")], lambda _: None)
    for path, content in made.files.items():
        if "/activate.d/" in path and not path.endswith(".csh"):
            Path(path).write_bytes(content)
            Path(path).chmod(0o640)
            os.utime(path, ns=(1_700_000_000_123_456_789,) * 2)


class Tree(Struct, frozen=True):
    """Everything in a ward but the journals: type and mode, and content or link text, by path."""

    entries: dict[str, tuple[int, bytes]]
    times: dict[str, int]  #: of regular files, ns

    def differences(self, other: Tree, *, times: bool) -> list[str]:
        """Return the paths that differ."""
        mine, theirs = self.entries, other.entries
        paths = {path for path in mine.keys() | theirs.keys() if mine.get(path) != theirs.get(path)}
        if times:
            paths |= {path for path, when in self.times.items() if other.times.get(path, when) != when}
        return sorted(paths)


class Ran(Struct, frozen=True):
    """One finished process; `hit` where something was injected into it."""

    status: int
    out: str
    err: str
    hit: bool = True


class Injection(Struct, frozen=True):
    """What is done to which command, at its nth call of a kind."""

    command: str
    call: str
    how: str  #: KILL, the name of an error, or SHORT: what a file may grow to, so that a line is torn off
    number: int

    def __str__(self) -> str:
        """Return it as `undo: fsync 3 KILL`."""
        return f"{self.command}: {self.call} {self.number} {self.how}"


class Ward:
    """One folder with the patient, always at the same path, and its states kept beside it."""

    def __init__(self, folder: Path) -> None:
        """Make the states that the commands start from: broken, repaired, and a repair that was killed."""
        self.root, self.kept = folder / "ward", folder / "kept"
        self.root.mkdir(parents=True)
        self.kept.mkdir()
        make_environment(self.root)
        self.keep("broken")
        self.before = self.tree()
        self.paths = {"apply": self._paths("apply")}
        self.after = self.tree()
        (journal,) = self.root.glob(f"env/{IN_PREFIX}/journal/*.jsonl")
        written = journal.read_bytes()
        #: Sizes of the journal from where all is said that is about to be done.
        self.sizes = range(written.index(b'{"record":"done"') + 1, len(written))
        self.keep("repaired")
        self.paths["undo"] = self._paths("undo")
        self.put("broken")
        self.injected(Injection("apply", "renameat", "KILL", 6))  # in the middle of the steps
        self.keep("killed")
        self.paths["resume"] = self._paths("resume")
        self.met = {command: self._met(command) for command in ARGUMENTS}

    def keep(self, state: str) -> None:
        """Copy the ward away under a name."""
        shutil.rmtree(self.kept / state, ignore_errors=True)
        subprocess.run(["cp", "-a", str(self.root), str(self.kept / state)], check=True)

    def put(self, state: str) -> None:
        """Make the ward what it was."""
        shutil.rmtree(self.root)
        subprocess.run(["cp", "-a", str(self.kept / state), str(self.root)], check=True)

    def start(self, command: str) -> None:
        """Put what a command starts from."""
        self.put({"apply": "broken", "undo": "repaired", "resume": "killed"}[command])

    def tree(self) -> Tree:
        """Return the ward as it is."""
        entries: dict[str, tuple[int, bytes]] = {}
        times: dict[str, int] = {}
        for folder, folders, names in os.walk(self.root):
            for journals, name in (("env/etc", "cudadoctor"), ("home", ".local")):
                if folder == f"{self.root}/{journals}" and name in folders:
                    folders.remove(name)
            for path in (f"{folder}/{name}" for name in (*folders, *names)):
                found = os.lstat(path)
                body = b""
                if stat.S_ISLNK(found.st_mode):
                    body = os.readlink(os.fsencode(path))
                elif stat.S_ISREG(found.st_mode):
                    body, times[path] = Path(path).read_bytes(), found.st_mtime_ns
                entries[path] = found.st_mode, body
        return Tree(entries, times)

    def run(self, *argv: str, tracer: Sequence[str] = ()) -> Ran:
        """Run the program on the ward."""
        command = [*tracer, sys.executable, "-m", "cudadoctor", *argv, "--prefix", f"{self.root}/env"]
        if argv[0] != "undo":
            command.append("--no-config")
        ran = subprocess.run(command, capture_output=True, text=True, env=variables(self.root), timeout=120)
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    def injected(self, injection: Injection) -> Ran:
        """Run a command with something injected into the main thread: that alone changes files."""
        if injection.how == "SHORT":
            ran = self.run(*ARGUMENTS[injection.command], tracer=["prlimit", f"--fsize={injection.number}"])
            return Ran(ran.status, ran.out, ran.err, "File too large" in ran.err)
        log = self.kept / "trace"
        when = f"{injection.number}{'+' if injection.how.endswith('+') else ''}"
        what = "signal=SIGKILL" if injection.how == "KILL" else f"error={injection.how.rstrip('+')}"
        tracer = ["strace", "-qqq", "-o", str(log), "-e", f"trace={injection.call}"]
        tracer += ["-e", f"inject={injection.call}:{what}:when={when}"]
        tracer += [part for path in self.paths[injection.command] for part in ("-P", path)]
        ran = self.run(*ARGUMENTS[injection.command], tracer=tracer)
        hit = ran.status == -9 if injection.how == "KILL" else "(INJECTED)" in log.read_text(errors="replace")
        return Ran(ran.status, ran.out, ran.err, hit)

    def open_runs(self) -> list[str]:
        """Return the status of every run that is left half done."""
        prefix = f"{self.root}/env"
        folders = f"{prefix}/{IN_PREFIX}", in_state(prefix, {}, f"{self.root}/home")
        runs = [run for folder in folders for run in read_runs(RealHost(), folder)]
        return [run.status for run in runs if run.is_open]

    def _paths(self, command: str) -> list[str]:
        """Run a command undisturbed and return every path and folder that it opened or changed files in."""
        log = self.kept / "trace"
        ran = self.run(
            *ARGUMENTS[command],
            tracer=["strace", "-qqq", "-y", "-s", "4096", "-o", str(log), "-e", "trace=file,desc"],
        )
        assert ran.status in (0, 1) and not ran.err, ran
        found: dict[str, None] = {}
        for line in _from_the_lock_on(log):
            folder = next(iter(re.findall(rf"<({re.escape(str(self.root))}[^>]*)>", line)), "")
            if folder and not line.startswith(("getdents", "newfstatat", "close")):
                found[folder] = None
                found |= {f"{folder}/{name}": None for name in re.findall(r', "([^"/]+)", O_', line)}
        return list(found)

    def _met(self, command: str) -> dict[str, tuple[int, int]]:
        """Return which calls a command makes on these paths, each with its first and its last number.

        Of openat those that are made between the lock and the last word in the journal: others only look.
        """
        self.start(command)
        log = self.kept / "trace"
        tracer = ["strace", "-qqq", "-o", str(log), "-e", f"trace={','.join(CALLS)}"]
        tracer += [part for path in self.paths[command] for part in ("-P", path)]
        self.run(*ARGUMENTS[command], tracer=tracer)
        calls = [line.partition("(")[0] for line in log.read_text(errors="replace").splitlines()]
        begun = max(0, calls.index("flock") - 8)
        ended = len(calls) - calls[::-1].index("fsync")
        met = {call: (1, calls.count(call)) for call in CALLS if call in calls}
        return {**met, "openat": (calls[:begun].count("openat") + 1, calls[:ended].count("openat"))}


def _from_the_lock_on(log: Path) -> list[str]:
    """Return the lines of a trace from where the folder of the journals is opened, just before its lock."""
    lines = log.read_text(errors="replace").splitlines()
    locked = next(number for number, line in enumerate(lines) if line.startswith("flock"))
    return lines[max(0, locked - 8) :]


# --- what has to be true afterwards -------------------------------------------------------------------------


def losses(ward: Ward, injection: Injection) -> list[str] | None:
    """Run a command with an injection; return what is not as it must be, or None where nothing was hit."""
    ward.start(injection.command)
    ran = ward.injected(injection)
    if not ran.hit:
        return None
    found = [] if injection.how == "KILL" else list(_said(ward, injection, ran))
    left = ward.open_runs()
    found += _checked(ward, bool(left))
    if not left:
        return [*found, *_settled(ward, injection, ran)]
    ward.keep("left")
    undone = ward.run("undo")
    found += _is(ward, ward.before, "undo", undone, (0,), times=True)
    if left == ["interrupted"]:
        ward.put("left")
        found += _is(ward, ward.after, "resume", ward.run("fix", "--resume"), (0, 1), times=False)
    elif left != ["undo interrupted"]:
        found.append(f"runs left open: {left}")
    return found


def _said(ward: Ward, injection: Injection, ran: Ran) -> Iterator[str]:
    """Yield what is wrong with how an error was told: one line, exit code 2, or all was done."""
    if "Traceback" in ran.err or "bug of cudadoctor" in ran.err:
        yield f"crashed: {ran.err}"
    elif ran.status == 2:
        if ran.err.count("\n") != 1 or not ran.err.startswith("cudadoctor: "):
            yield f"not one line: {ran.err!r}"
        elif ": nothing was changed" in ran.err and ward.tree() != ward.before:
            yield from (
                f"said to be as before: {path}" for path in ward.before.differences(ward.tree(), times=True)
            )
    elif ran.status not in (0, 1) or ward.open_runs():
        yield f"exit {ran.status}: {ran.err!r} {ran.out!r}"


def _checked(ward: Ward, is_open: bool) -> Iterator[str]:
    """Yield what is wrong with `check`: it names an interrupted run where there is one, and only there."""
    ran = ward.run("check", "--format", "json")
    if ran.status not in (0, 1) or ran.err:
        yield f"check: exit {ran.status}: {ran.err}"
        return
    outcome = next(o for o in json.loads(ran.out)["outcomes"] if o["check"] == "repair-interrupted")
    if bool(outcome["findings"]) is not is_open:
        yield f"check: repair-interrupted {outcome['outcome']}, a run is {'' if is_open else 'not '}open"


def _settled(ward: Ward, injection: Injection, ran: Ran) -> Iterator[str]:
    """Yield what is wrong where no run is open: all is as before or all is done, and nothing in between."""
    now = ward.tree()
    as_before = ward.before.differences(now, times=True)
    as_after = ward.after.differences(now, times=False)
    if injection.command == "undo" and as_before and not as_after:
        again = ward.run("undo")
        yield from _is(ward, ward.before, "undo", again, (0,), times=True)
    elif as_before and as_after:
        yield f"neither before ({', '.join(as_before[:3])}) nor after ({', '.join(as_after[:3])})"
    elif as_before and injection.how != "KILL" and ran.status == 2:
        yield f"all was done, and said to have failed: {ran.err}"


def _is(
    ward: Ward, wanted: Tree, what: str, ran: Ran, statuses: tuple[int, ...], *, times: bool
) -> Iterator[str]:
    if ran.status not in statuses:
        yield f"{what}: exit {ran.status}: {ran.err}"
    elif paths := wanted.differences(ward.tree(), times=times):
        yield f"{what}: not as it must be: {', '.join(paths)}"
    elif ward.open_runs():
        yield f"{what}: a run is still open"


# --- all of them --------------------------------------------------------------------------------------------


class Row(Struct, frozen=True):
    """What came of one kind of injection into one call of one command."""

    command: str
    call: str
    how: str
    runs: int
    lost: tuple[str, ...]


def every(ward: Ward, command: str, call: str, how: str) -> Row:
    """Inject at the first call, the second, ... and the last that a run makes undisturbed."""
    first, last = ward.met[command].get(call, (1, 0))
    numbers = range(first, last + 1)
    if how == "SHORT":
        numbers = ward.sizes[::7] if (command, call) == ("apply", "write") else range(0)
    lost: list[str] = []
    for number in numbers:
        injection = Injection(command, call, how, number)
        found = losses(ward, injection)
        lost += [f"{injection}: {each}" for each in (["was not met again"] if found is None else found)]
    return Row(command, call, how, len(numbers), tuple(lost))


def measure(folder: Path, kinds: Sequence[tuple[str, str, str]], jobs: int) -> Iterator[Row]:
    """Yield a row for each kind of injection, done in so many wards at once."""
    wards: SimpleQueue[Ward] = SimpleQueue()
    for number in range(jobs):
        wards.put(Ward(folder / str(number)))

    def row(kind: tuple[str, str, str]) -> Row:
        ward = wards.get()
        try:
            return every(ward, *kind)
        finally:
            wards.put(ward)

    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(row, kinds)


def main() -> int:
    """Print a row for each call that was met, then the losses; return 1 where there are any."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="*", default=CALLS, metavar="CALL")
    parser.add_argument("--how", nargs="*", default=("KILL", "SHORT", *ERRORS))
    parser.add_argument("--command", nargs="*", default=tuple(ARGUMENTS), choices=tuple(ARGUMENTS))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if shutil.which("strace") is None or shutil.which("gcc") is None:
        print("skipped: strace and gcc are needed", file=sys.stderr)
        return 0
    kinds = [(c, call, how) for c in options.command for how in options.how for call in options.only]
    started, lost, runs = time.perf_counter(), Counter[str](), 0
    print(f"{'command':8} {'system call':12} {'injected':9} {'runs':>5}  result")
    with tempfile.TemporaryDirectory(prefix="injections-") as folder:
        for row in measure(Path(folder).resolve(), kinds, options.jobs):
            if row.runs:
                result = f"{len(row.lost)} LOST" if row.lost else "recovered"
                print(f"{row.command:8} {row.call:12} {row.how:9} {row.runs:5}  {result}", flush=True)
            for each in row.lost:
                print(f"    {each}", flush=True)
            runs += row.runs
            lost[row.command] += len(row.lost)
    print(f"{runs} injections, {lost.total()} losses        {time.perf_counter() - started:.0f} s")
    return 1 if lost.total() else 0


if __name__ == "__main__":
    sys.exit(main())
