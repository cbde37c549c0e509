"""The loader's model against glibc's own loader: the same file for each name, in the same order.

Set CUDADOCTOR_EXAMPLES to try more trees than the default, each run others. The tests marked `stack` go
through every ELF file of the environments in CUDADOCTOR_STACK (a prefix, or several with colons between).
"""

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import cudadoctor.elf as reader
from cudadoctor.engine import collect, examine, needed
from cudadoctor.facts import DynamicLoader, Environ, SharedObjects
from cudadoctor.findings import Severity
from cudadoctor.host import RealHost
from cudadoctor.outcomes import Failed, Passed, Skipped
from cudadoctor.probes.ldcache import LoaderCache, cached
from cudadoctor.probes.objects import Disk, _preload, dynamic_loader
from cudadoctor.probes.target import Request
from cudadoctor.simulate.imports import imports
from cudadoctor.simulate.loader import Process
from cudadoctor.testing import FakeHost, named
from tests.checks.loaded import Stack
from tests.elves import LOADER, NODEFLIB, Trace, has_loader, plant, trace

from .conftest import _do_without

EXAMPLES = int(os.environ.get("CUDADOCTOR_EXAMPLES", "12"))
PATHS_OF_A_TREE = 24
HOST = RealHost()


@pytest.fixture(scope="module")
def loader() -> DynamicLoader:
    if not has_loader():
        _do_without(f"{LOADER} is not here")
    found, reason = dynamic_loader(HOST, reader.read(HOST, os.path.realpath(sys.executable)))
    assert found is not None, reason
    return found


def simulated(
    loader: DynamicLoader,
    path: str,
    library_path: str | None,
    cwd: str,
    preload: Iterable[str] = (),
    origin: str = "",
    disk: Disk | None = None,
) -> Trace:
    """Return what the model says where `trace` asks the loader."""
    process = Process(disk or Disk(HOST, loader), loader, library_path or "", cwd)
    problems = process.start(path, tuple(preload), origin)
    found = [(one.name, one.path) for one in process.loaded[1:] if "/ld-linux" not in f"/{one.name}"]
    stopped = next((f"{problem.path}: {problem.reason}" for problem in problems if problem.path), "")
    return Trace(found, [problem.name for problem in problems if not problem.path], stopped)


def differ(mine: Trace, theirs: Trace) -> bool:
    """Return whether model and loader disagree; where the loader stops, the reason is all that it says."""
    if "GLIBC_ABI_DT_RELR" in theirs.error:
        return False  # libm came without the libc it is checked against, as -z nodeflib can make it
    if mine.error:
        return mine.error.partition(": Is a dir")[0] not in theirs.error
    return "error while loading" in theirs.error or mine[:2] != theirs[:2]


def disagreements(
    loader: DynamicLoader, cases: Iterable[tuple[str, str | None, str]], workers: int = 1
) -> tuple[int, list[tuple[object, ...]]]:
    """Compare file by file; return how many comparisons there were, and those that failed."""
    listed = list(cases)
    disks: dict[str, Disk] = {}
    with ThreadPoolExecutor(workers) as pool:
        traces = list(pool.map(lambda case: trace(*case), listed))
    wrong: list[tuple[object, ...]] = []
    for case, theirs in zip(listed, traces, strict=True):
        os.chdir(case[2])  # relative paths mean another file in each folder
        disk = disks.setdefault(case[2], Disk(HOST, loader))
        mine = simulated(loader, *case, disk=disk)
        if differ(mine, theirs):
            wrong.append((case, mine, theirs))
    return len(listed), wrong


# --- trees made by chance -----------------------------------------------------------------------------------


class Tree:
    """Libraries that need each other, in folders of all kinds, with RPATH and RUNPATH of all kinds."""

    NAMES = tuple(f"liba{index}.so" for index in range(9))

    def __init__(self, root: Path, dice: random.Random, loader: DynamicLoader) -> None:
        self.root, self.dice, self.loader = root, dice, loader
        self.folders = [root / name for name in ("one", "two", "three/deep", "own", "lib64", loader.lib)]
        for folder in self.folders:
            folder.mkdir(parents=True, exist_ok=True)
            for name in self.NAMES:
                if dice.random() < 0.45:
                    self.put(folder / name)
        level = dice.choice(loader.subfolders or ("glibc-hwcaps/none",))
        for name in dice.sample(self.NAMES, 3):
            self.put(self.folders[0] / level / name)
        (root / "link").symlink_to("three/deep")
        self.program = plant(root / "own" / "libroot.so", "libroot.so", self.needed(), **self.lists())

    def put(self, path: Path) -> None:
        kind = self.dice.random()
        path.parent.mkdir(parents=True, exist_ok=True)
        others = [folder / path.name for folder in self.folders if (folder / path.name).exists()]
        if kind < 0.1 and others:
            path.symlink_to(os.path.relpath(self.dice.choice(others), path.parent))
        elif kind < 0.14 and others:
            os.link(self.dice.choice(others), path)
        elif kind < 0.17:
            path.symlink_to("nowhere")
        elif kind < 0.19:
            path.symlink_to(path.name)
        elif kind < 0.24:
            path.write_bytes(b"\x7fELF\x01\x01\x01".ljust(120, b"\0"))  # 32 bits: gone past
        elif kind < 0.27:
            plant(path, path.name, machine=40)
        elif kind < 0.275:
            path.write_bytes(b"\x7fELF")
        else:
            soname = self.dice.choice((path.name, path.name, path.name, "", self.dice.choice(self.NAMES)))
            flags = NODEFLIB if self.dice.random() < 0.1 else 0
            plant(path, soname, self.needed(), flags_1=flags, **self.lists())

    def needed(self) -> list[str]:
        dice = self.dice
        names = dice.sample(self.NAMES, dice.randint(0, 3))
        if dice.random() < 0.3:
            names.append(dice.choice(("libc.so.6", "libm.so.6", "libz.so.1", "libstdc++.so.6")))
        if dice.random() < 0.08:
            names.append(dice.choice((f"{self.root}/one/liba1.so", "$ORIGIN/liba2.so", "./liba3.so")))
        return names

    def lists(self) -> dict[str, str | None]:
        dice = self.dice
        rpath = self.path(":") if dice.random() < 0.4 else None
        return {"rpath": rpath, "runpath": self.path(":") if dice.random() < 0.25 else None}

    def path(self, separators: str = ":;") -> str:
        dice, own = self.dice, self.root
        pool = [
            *(str(folder) for folder in self.folders), f"{own}/link", f"{own}/one/", f"{own}//two",
            f"{own}/nowhere", "", "one", "$ORIGIN/../one", "${ORIGIN}/../two", f"{own}/one/../two", "$ORIGIN",
            "$ORIGINAL", f"{own}/$LIB", f"{own}/$PLATFORM", f"{own}/one/glibc-hwcaps", "/",
            f"{own}/own/libroot.so",
        ]  # fmt: skip
        # The loader that is run by its own name puts its own folder in for $ORIGIN in LD_LIBRARY_PATH.
        usable = [entry for entry in pool if separators == ":" or "ORIGIN" not in entry]
        entries = dice.sample(usable, dice.randint(0, 4))
        return "".join(f"{entry}{dice.choice(separators)}" for entry in entries)[
            : None if dice.random() < 0.3 else -1
        ]


@pytest.mark.parametrize("example", range(EXAMPLES))
def test_agrees_with_the_loader_on_trees_made_by_chance(
    example: int, tmp_path: Path, loader: DynamicLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = example if "CUDADOCTOR_EXAMPLES" not in os.environ else random.randrange(1 << 30)
    monkeypatch.chdir(tmp_path)  # given back at the end
    tree = Tree(tmp_path, random.Random(seed), loader)
    paths = [None, *(tree.path() for _ in range(PATHS_OF_A_TREE - 1))]
    files = [tree.program, *(path for path in tmp_path.glob("one/liba*.so") if path.is_file())]
    cases = [
        (str(file), path, str(cwd))
        for file in files
        for path in paths
        for cwd in ((tmp_path, tmp_path / "two") if path and "::" in f":{path}:" else (tmp_path,))
        if not reader.read(HOST, str(file)).problem and reader.read(HOST, str(file)).machine == loader.machine
    ]
    count, wrong = disagreements(loader, cases, 2)
    print(f"{count} comparisons, {len(wrong)} disagreements")
    assert count > 20 and not wrong, f"seed {seed}: {len(wrong)} as {wrong[0]}"


# --- programs that run, and what the compiler makes ---------------------------------------------------------


def compiled(gxx: str, path: Path, *flags: str, program: bool = False) -> Path:
    """Compile a library of one function, or a program, with these flags; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = path.with_suffix(".cc")
    source.write_text(
        "int main() {}" if program else f'extern "C" int f_{path.name.split(".")[0]}() {{ return 1; }}'
    )
    kind = () if program else ("-shared", "-fPIC", f"-Wl,-soname,{path.name}")
    subprocess.run([gxx, str(source), *kind, "-o", str(path), "-Wl,--no-as-needed", *flags], check=True)
    return path


@pytest.fixture
def program(tmp_path: Path, gxx: str) -> Path:
    """Return bin/program, which needs liba.so, which needs libb.so; each is in several folders."""
    libraries = {name: compiled(gxx, tmp_path / "lib" / name) for name in ("libb.so",)}
    allow = "-Wl,--allow-shlib-undefined"
    a = compiled(gxx, tmp_path / "lib" / "liba.so", str(libraries["libb.so"]), allow)
    for folder in ("other", "third"):
        for library in (a, libraries["libb.so"]):
            (tmp_path / folder).mkdir(exist_ok=True)
            shutil.copy(library, tmp_path / folder)
    return a


@pytest.mark.parametrize("tags", ["--enable-new-dtags", "--disable-new-dtags"])
@pytest.mark.parametrize(
    "library_path",
    [
        None,
        "",
        ":",
        "{root}/other",
        "{root}/third:{root}/other",
        "$ORIGIN/../other",
        "${{ORIGIN}}/../third:",
        "lib",
    ],
)
def test_agrees_on_a_program_that_is_run(
    tags: str,
    library_path: str | None,
    program: Path,
    gxx: str,
    tmp_path: Path,
    loader: DynamicLoader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RPATH leads to libb.so as well, RUNPATH does not; $ORIGIN is where the program is, not a link to it."""
    flags = (f"-Wl,{tags}", "-Wl,-rpath,$ORIGIN/../lib", "-Wl,--allow-shlib-undefined", str(program))
    started = compiled(gxx, tmp_path / "bin" / "program", *flags, program=True)
    (tmp_path / "link").symlink_to(started)
    monkeypatch.chdir(tmp_path / "other")
    value = library_path and library_path.format(root=tmp_path)
    theirs = trace(str(tmp_path / "link"), value, str(tmp_path / "other"), run=True)
    mine = simulated(loader, str(started), value, str(tmp_path / "other"))
    assert not differ(mine, theirs), (mine, theirs)
    assert theirs.found, theirs.error


def test_agrees_on_what_is_preloaded(
    program: Path, tmp_path: Path, loader: DynamicLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    preload = [str(tmp_path / "other" / "libb.so"), "libm.so.6", "/no/such.so"]
    theirs = trace(str(program), None, str(tmp_path), LD_PRELOAD=":".join(preload))
    mine = simulated(loader, str(program), None, str(tmp_path), preload)
    assert mine.found == theirs.found and len(theirs.found) >= 3


@pytest.mark.parametrize(
    "text",
    [
        "/p/a.so:/p/b.so\t/p/c.so\n/p/d.so",
        "# one: /p/e.so\n/p/a.so:/p/b.so /p/c.so # /p/e.so\n/p/d.so#/p/f.so\n",
        "# the allocator of all services, since the autumn\n/p/a.so\n# /p/b.so\n",
        "/p/a.so\r\n/p/b.so\v/p/c.so\n/p/d.so;/p/e.so",
        "#\n#\n#/p/a.so\n/p/b.so #",
        "/p/a.so # /p/b.so",
    ],
)
def test_agrees_on_what_ld_so_preload_names(text: str, loader: DynamicLoader, tmp_path: Path) -> None:
    """In a folder that is the root of a process: as none of the names is there, the loader says them all."""
    unshare, true = shutil.which("unshare"), os.path.realpath("/bin/true")
    if unshare is None:
        _do_without("unshare is not here")
    needed = [path for _, path in trace(true, None, "/").found]
    for path in (LOADER, true, *needed):
        place = tmp_path / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "ld.so.preload").write_text(text)
    command = [unshare, "--map-root-user", "chroot", str(tmp_path), true]
    ran = subprocess.run(command, capture_output=True, env={"PATH": "/usr/sbin:/usr/bin"})
    said = ran.stderr.decode()
    if ran.returncode:
        _do_without(f"no root of its own for a process: {said.strip()}")
    host = FakeHost({"/etc/ld.so.preload": text})
    assert _preload(host) == re.findall(r"object '(.*?)' from /etc/ld.so.preload", said), said


def test_reads_the_cache_as_ldconfig_writes_it(program: Path, tmp_path: Path, loader: DynamicLoader) -> None:
    ldconfig = shutil.which("ldconfig", path=f"{os.environ['PATH']}:/sbin:/usr/sbin")
    if ldconfig is None:
        _do_without("ldconfig is not here")
    for level in ("x86-64-v2", "x86-64-v3"):
        plant(tmp_path / "lib" / "glibc-hwcaps" / level / "libb.so", "libb.so")
    (tmp_path / "conf").write_text(f"{tmp_path}/lib\n{tmp_path}/other\n")
    cache = tmp_path / "cache"
    command = [ldconfig, "-X", "-f", str(tmp_path / "conf"), "-C", str(cache)]
    subprocess.run(command, check=True)
    printed = subprocess.run([ldconfig, "-p", "-C", str(cache)], check=True, capture_output=True, text=True)
    told: dict[str, list[tuple[str, str]]] = {}
    for name, notes, path in re.findall(r"^\t(\S+) \((.*?)\) => (.*)$", printed.stdout, re.MULTILINE):
        if "x86-64" in notes or loader.machine != "x86_64":
            hwcap = re.search(r'hwcap: "([^"]+)"', notes)
            told.setdefault(name, []).append((path, hwcap[1] if hwcap else ""))
    read, whole = LoaderCache(cache.read_bytes(), loader.machine), LoaderCache(cache.read_bytes(), "")
    assert len(told) > 2
    for name, entries in told.items():
        assert [(entry.path, entry.hwcaps) for entry in read.entries(name)] == entries
        assert whole.entries(name) == read.entries(name)


def test_tells_of_this_machine_s_cache_what_ldconfig_tells(loader: DynamicLoader) -> None:
    ldconfig = shutil.which("ldconfig", path=f"{os.environ['PATH']}:/sbin:/usr/sbin")
    if ldconfig is None:
        _do_without("ldconfig is not here")
    printed = subprocess.run([ldconfig, "-p"], check=True, capture_output=True, text=True).stdout
    told: dict[str, list[str]] = {}
    for name, path in re.findall(r"^\t(\S+) \(.*?\) => (.*)$", printed, re.MULTILINE):
        told.setdefault(name, []).append(path)
    assert "libc.so.6" in told
    assert {name: cached(HOST, name) for name in told} == told
    assert cached(HOST, "libnowhere.so.1") == []


# --- a real stack -------------------------------------------------------------------------------------------


def prefixes() -> list[str]:
    """Return the environments to go through; skip where none is named."""
    named = os.environ.get("CUDADOCTOR_STACK", "")
    if not named:
        _do_without("CUDADOCTOR_STACK names no environment")
    return [prefix for prefix in named.split(":") if prefix]


def elf_files(prefix: str) -> list[str]:
    found = []
    for folder, _, names in os.walk(prefix):
        for name in names:
            path = f"{folder}/{name}"
            if ".so" not in name and not os.access(path, os.X_OK):
                continue
            try:
                file = reader.read(HOST, path)
            except OSError:
                continue
            if not os.path.islink(path) and not file.problem and file.machine == "x86_64":
                found.append(path)
    return found


#: Libraries that LD_LIBRARY_PATH is said to put before a wheel's own.
COMMON = (
    "libnvJitLink.so.12", "libnvJitLink.so.13", "libcudart.so.12", "libcudart.so.13", "libcublas.so.12",
    "libcublas.so.13", "libcublasLt.so.12", "libcublasLt.so.13", "libcusparse.so.12", "libcudnn.so.9",
    "libnccl.so.2", "libc10.so", "libtorch_cpu.so", "libgomp.so.1", "libstdc++.so.6", "libz.so.1",
)  # fmt: skip


def library_paths(root: Path, prefix: str) -> list[str | None]:
    """Return more than 20 values of LD_LIBRARY_PATH, of the kinds that people set."""
    site = next(Path(prefix).glob("lib/python3*/site-packages"))
    for name in COMMON:
        plant(root / "conda" / "lib" / name, name, ["libc.so.6"])
        (root / "wrong").mkdir(exist_ok=True)
        (root / "wrong" / name).write_bytes(b"\x7fELF\x01\x01\x01".ljust(120, b"\0"))
    plant(root / "old" / "libnvJitLink.so.12", "libnvJitLink.so.12")
    plant(root / "old" / "libnvJitLink.so.13", "libnvJitLink.so.13")
    plant(root / "stubs" / "libcuda.so", "libcuda.so.1")
    plant(root / "driver" / "libcuda.so.1", "libcuda.so.1")
    plant(root / "levels" / "glibc-hwcaps" / "x86-64-v2" / "libcudart.so.12", "libcudart.so.12")
    plant(
        root / "levels" / "libgomp.so.1", "other-name.so", rpath="$ORIGIN/../conda/lib", needed=["libz.so.1"]
    )
    (root / "link").symlink_to("conda")
    (root / "dangling").mkdir()
    (root / "dangling" / "libcudart.so.12").symlink_to("gone")
    (root / "dangling" / "libcudnn.so.9").symlink_to("libcudnn.so.9")
    nvidia = sorted(str(path) for path in site.glob("nvidia/*/lib"))
    old, conda, stubs, torch = f"{root}/old", f"{root}/conda/lib", f"{root}/stubs", f"{site}/torch/lib"
    return [
        None, "", ":", old, conda, stubs, f"{conda}:{stubs}", f"{old}:{conda}", f"{root}/driver", torch,
        f"{conda}:{torch}", f"{torch}:{conda}", f":{conda}", f"{conda}:", f"{old};{stubs}",
        f"{root}/wrong:{conda}", f"{root}/levels", f"{root}/link/lib/", f"{root}/dangling:{conda}",
        "/usr/local/cuda/lib64", "/no/such/folder", ":".join(nvidia), ":".join([*reversed(nvidia), torch]),
        f"/usr/lib/$LIB:{root}/$PLATFORM", "/usr/lib:/lib", f"{root}/conda/$LIB:{root}/levels:{root}/driver",
    ]  # fmt: skip


@pytest.mark.stack
def test_agrees_on_every_file_of_a_real_stack(
    tmp_path: Path, loader: DynamicLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = 0
    for number, prefix in enumerate(prefixes()):
        root = tmp_path / str(number)
        paths = library_paths(root, prefix)
        monkeypatch.chdir(root / "conda" / "lib")
        cases = [(file, path, str(root / "conda" / "lib")) for path in paths for file in elf_files(prefix)]
        count, wrong = disagreements(loader, cases, 2)
        print(
            f"{prefix}: {count} comparisons under {len(paths)} LD_LIBRARY_PATHs, {len(wrong)} disagreements"
        )
        assert not wrong, wrong[0]
        total += count
    assert total > 1000


IMPORT = "import torch; print('done')"


@pytest.mark.stack
@pytest.mark.parametrize("kind", ["nothing", "old nvJitLink", "torch/lib"])
def test_knows_what_importing_torch_loads(kind: str, tmp_path: Path) -> None:
    """What an earlier import loaded is there already: LD_DEBUG names each library as it is initialised."""
    for prefix in prefixes():
        site = str(next(Path(prefix).glob("lib/python3*/site-packages")))
        for name in ("libnvJitLink.so.12", "libnvJitLink.so.13"):
            plant(tmp_path / "old" / name, name)
        value = {"nothing": None, "old nvJitLink": str(tmp_path / "old"), "torch/lib": f"{site}/torch/lib"}[
            kind
        ]
        variables = {name: text for name, text in os.environ.items() if not name.startswith("LD_")}
        variables |= {"LD_LIBRARY_PATH": value} if value else {}
        variables |= {"VIRTUAL_ENV": prefix}
        host = RealHost(variables)
        facts = collect(host, needed((), also=("objects",)), Request(prefix=prefix))
        assert isinstance(facts.objects, SharedObjects) and isinstance(facts.environ, Environ)
        torch = imports(facts.objects, facts.environ, value or "")[0]
        mine = {os.path.realpath(one.path) for one in torch.process.loaded[1:]}
        log = tmp_path / "log"
        debug = {**variables, "LD_DEBUG": "libs", "LD_DEBUG_OUTPUT": str(log)}
        python = f"{prefix}/bin/python"
        ran = subprocess.run([python, "-c", IMPORT], env=debug, capture_output=True, text=True, timeout=300)
        assert "done" in ran.stdout, ran.stderr
        theirs = set()
        for file in tmp_path.glob("log.*"):
            lines = re.findall(r"calling init: (/.*)$", file.read_text(errors="replace"), re.MULTILINE)
            theirs |= {os.path.realpath(path) for path in lines}
            file.unlink()
        assert torch.problems == [] and mine <= theirs, mine - theirs
        ours = {path for path in theirs - mine if "/torch/" in path or "/nvidia/" in path}
        assert not ours, "all of torch's and CUDA's libraries are foreseen"
        print(f"{prefix}, {kind}: {len(mine)} libraries as in the real import")


CHECKS = (
    "shared-library-missing",
    "shared-library-shadowed",
    "symbol-version-missing",
    "stub-loaded-as-driver",
)


def errors(prefix: str, variables: dict[str, str]) -> list[str]:
    """Return what the loader's checks say of an environment with these variables; notes are left out."""
    checks = [named(name) for name in CHECKS]
    facts = collect(RealHost(variables), needed(checks), Request(prefix=prefix))
    outcomes = examine(facts, checks, CHECKS)
    assert all(isinstance(one, (Passed, Failed, Skipped)) for one in outcomes), outcomes
    findings = [finding for one in outcomes for finding in one.findings]
    return [finding.summary for finding in findings if finding.severity is Severity.ERROR]


@pytest.mark.stack
def test_an_error_is_found_exactly_where_the_import_fails(tmp_path: Path) -> None:
    cuda = [name for name in COMMON if name.startswith("libcu") or "nccl" in name or "nvJit" in name]
    for folder, names in (("old", COMMON[:2]), ("toolkit", cuda), ("own", COMMON[11:14])):
        for name in names:
            plant(tmp_path / folder / name, name, ["libc.so.6"])
    plant(tmp_path / "gcc" / "libgcc_s.so.1", "libgcc_s.so.1", provides=["GCC_3.0"])
    plant(tmp_path / "std" / "libstdc++.so.6", "libstdc++.so.6", provides=["GLIBCXX_3.4"])
    for prefix in prefixes():
        torch = str(next(Path(prefix).glob("lib/python3*/site-packages/torch/lib")))
        places = {"": "", "torch": torch}
        places |= {name: f"{tmp_path}/{name}" for name in ("old", "toolkit", "own", "gcc", "std")}
        for name, place in places.items():
            variables = {key: text for key, text in os.environ.items() if not key.startswith("LD_")}
            variables |= {"VIRTUAL_ENV": prefix, **({"LD_LIBRARY_PATH": place} if place else {})}
            python = f"{prefix}/bin/python"
            ran = subprocess.run([python, "-c", IMPORT], env=variables, capture_output=True, text=True)
            found = errors(prefix, variables)
            assert bool(found) is bool(ran.returncode), (prefix, name, found, ran.stderr[-500:])
            assert bool(found) is (name in ("gcc", "std")), (prefix, name, found)


def test_a_shadowed_library_fails_as_it_is_foretold(gxx: str, tmp_path: Path) -> None:
    """The wheel's libraries are compiled, and Python opens them with both LD_LIBRARY_PATHs."""
    stack = Stack(tmp_path)
    stack.wheel("torch", "2.9.0")
    link = stack.site / "nvjitlink" / "libnvJitLink.so.12"
    for place, function in ((link, "f_complete_12_4"), (tmp_path / "old" / link.name, "f_complete_12_1")):
        place.parent.mkdir()
        source = f'extern "C" int {function}() {{ return 1; }} extern "C" int f_create() {{ return 1; }}'
        (tmp_path / "link.cc").write_text(source)
        flags = ["-shared", "-fPIC", f"-Wl,-soname,{link.name}", "-o", str(place)]
        subprocess.run([gxx, str(tmp_path / "link.cc"), *flags], check=True)
    (tmp_path / "use.cc").write_text(
        'extern "C" int f_complete_12_4(); extern "C" int f_create();'
        'extern "C" int use() { return f_complete_12_4() + f_create(); }'
    )
    extension = stack.site / "torch" / "_C.abi3.so"
    extension.parent.mkdir()
    flags = ["-shared", "-fPIC", "-Wl,--enable-new-dtags,-rpath,$ORIGIN/../nvjitlink", "-o", str(extension)]
    subprocess.run([gxx, str(tmp_path / "use.cc"), *flags, str(link)], check=True)
    for value in ("", f"{tmp_path}/old"):
        variables = {"PATH": os.environ["PATH"], **({"LD_LIBRARY_PATH": value} if value else {})}
        code = f"import ctypes; ctypes.CDLL({str(extension)!r})"
        ran = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True)
        said = errors(str(stack.root), variables)
        assert ("undefined symbol: f_complete_12_4" in ran.stderr) is bool(value)
        assert ["f_complete_12_4" in line for line in said] == ([True] if value else [])
