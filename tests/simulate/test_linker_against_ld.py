"""The model's verdict is ld's own, over generated layouts of folders, files, flags and LIBRARY_PATH.

Set CUDADOCTOR_EXAMPLES to try more layouts than the default, each run others.
"""

import os
import re
import shlex
import shutil
import signal
import struct
import subprocess
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cudadoctor.facts import Compiler, Environ, Packages, Variable
from cudadoctor.host import RealHost
from cudadoctor.probes import compilers
from cudadoctor.probes.libraries import inventory, search_folders
from cudadoctor.simulate.linker import Linker, Resolution, expand, file_names

EXAMPLES = int(os.environ.get("CUDADOCTOR_EXAMPLES", "500"))
FEW = EXAMPLES // 10  #: for the other compilers


def do_without(reason: str) -> NoReturn:
    if os.environ.get("CUDADOCTOR_REQUIRE_REAL") == "1":
        pytest.fail(f"CUDADOCTOR_REQUIRE_REAL=1, but {reason}", pytrace=False)
    pytest.skip(reason)


# --- the real linker ----------------------------------------------------------------------------------------


class Told(NamedTuple):
    """What ld said of one link."""

    files: list[str]
    missing: list[str]
    skipped: set[str]
    fatal: bool
    text: str


_FATAL = re.compile(
    r"file not recognized|not recognized; treating|cannot use executable|error adding symbols|file too short"
    r"|EOF in comment|signal 11"
)


def ask_ld(
    command: str,
    flags: list[str],
    object_file: Path,
    cwd: str,
    library_path: str | None,
    timeout_s: float = 20,
) -> Told:
    """Link for real and read what `-t` and the errors say; paths are made whole and single-slashed."""
    environ = clean_environ(library_path)
    argv = [*shlex.split(command), "-nostdlib", "-shared", str(object_file), *flags]
    argv += ["-o", str(object_file.with_name("out.so")), "-Wl,-t", "-Wl,-z,muldefs"]
    ran = subprocess.run(
        argv, cwd=cwd, env=environ, capture_output=True, text=True, errors="replace", timeout=timeout_s
    )
    traced = [line for line in ran.stdout.splitlines() if line and line != str(object_file)]
    missing = re.findall(r"cannot find (\S+?)(?::? .*)?$", ran.stderr, re.MULTILINE)
    skipped = re.findall(r"skipping incompatible (.*) when searching for", ran.stderr)
    fatal = _FATAL.search(ran.stderr) is not None
    assert (ran.returncode != 0) == bool(fatal or missing), ran.stderr
    return Told([whole(f, cwd) for f in traced], missing, {whole(f, cwd) for f in skipped}, fatal, ran.stderr)


def clean_environ(library_path: str | None) -> dict[str, str]:
    ours = ("LIBRARY_PATH", "LD_LIBRARY_PATH", "GCC_EXEC_PREFIX", "COMPILER_PATH", "LDEMULATION")
    environ = {name: value for name, value in os.environ.items() if name not in ours} | {"LC_ALL": "C"}
    return environ if library_path is None else environ | {"LIBRARY_PATH": library_path}


def whole(path: str, cwd: str) -> str:
    """Return the path from the root on, with the steps that lead nowhere taken out; `..` and links stay."""
    path = path if path.startswith("/") else f"{cwd}/{path}"
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


# --- the model, on facts from the real probes ---------------------------------------------------------------


def search_of(command: str) -> Compiler:
    """Ask the compiler for its search order, as the probe does."""
    variables = {name: Variable(value, "environment") for name, value in clean_environ(None).items()}
    path = tuple(os.environ["PATH"].split(":"))
    environ = Environ({**variables, "CXX": Variable(command, "environment")}, "these", path)
    found = compilers.probe(RealHost(clean_environ(None)), environ, Packages(()))
    return found.compilers[command]


def ask_model(
    compiler: Compiler, own: list[str], name: str, cwd: str, library_path: str | None
) -> Resolution:
    assert compiler.search is not None, compiler.problem
    before = os.getcwd()
    os.chdir(cwd)
    try:
        folders = [*own, *search_folders(RealHost(), compiler.search, library_path)]
        libraries = inventory(RealHost(), folders, file_names(name))
    finally:
        os.chdir(before)
    return Linker.of(compiler.search, own, library_path, libraries).find(name)


class Foreseen(NamedTuple):
    """What the model says that ld will say."""

    files: list[str]
    missing: list[str]
    skipped: set[str]
    fatal: str


def foresee(resolution: Resolution, cwd: str) -> Foreseen:
    """Walk a resolution as ld opens files: a script, then its members, up to the first that it cannot read.

    At an executable ld goes on, and stops when all files are open; what is missing comes first then.
    """
    seen, late = Foreseen([], [], set(), ""), ""
    for wanted, each in _walk(f"-l{resolution.name}", resolution):
        seen.skipped.update(
            whole(p.path, cwd) for p in each.passed if "incompatible" in p.why or "script" in p.why
        )
        if each.verdict == "missing":
            seen.missing.append(wanted)
            continue
        assert each.verdict in ("found", "fatal"), each
        if each.verdict == "fatal" and each.file and each.file.kind != "executable":
            return seen._replace(fatal=whole(each.path, cwd))
        seen.files.append(whole(each.path, cwd))
        late = late or (seen.files[-1] if each.verdict == "fatal" else "")
    return seen if seen.missing else seen._replace(fatal=late)


def _walk(wanted: str, resolution: Resolution) -> Iterator[tuple[str, Resolution]]:
    yield wanted, resolution
    if resolution.file is not None and resolution.members:
        for member, each in zip(resolution.file.members, resolution.members, strict=True):
            yield from _walk(member, each)


def assert_same(resolution: Resolution, told: Told, cwd: str) -> None:
    seen = foresee(resolution, cwd)
    what = f"\nmodel: {resolution}\nld: {told}"
    if told.missing and not told.fatal and has_group(resolution, cwd):
        # Once something is missing ld stops at the end of a GROUP: what comes after stays untold.
        assert resolution.ends == "missing", what
        assert told.files == [*seen.files, seen.fatal][: len(told.files)], what
        assert told.missing == seen.missing[: len(told.missing)], what
        assert told.skipped <= seen.skipped, what
        return
    assert bool(seen.fatal) == told.fatal, what
    more = [seen.fatal] if len(told.files) > len(seen.files) else []  # at times it stops before it traces
    assert told.files == seen.files + more, what
    if seen.fatal and not more and not re.search(r"EOF in comment|signal 11", told.text):
        assert seen.fatal.rpartition("/")[2] in told.text, what
    assert told.missing == seen.missing, what
    assert told.skipped == seen.skipped, what


def has_group(resolution: Resolution, cwd: str) -> bool:
    scripts = [whole(each.path, cwd) for _, each in _walk("", resolution) if each.members]
    return any(b"GROUP" in Path(script).read_bytes() for script in scripts)


# --- samples of every kind of file --------------------------------------------------------------------------


class Bench(NamedTuple):
    """A folder with an object to link, and the bytes of every kind of file."""

    object_file: Path
    samples: Mapping[str, bytes]


GIT_LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    if shutil.which("g++") is None:
        do_without("g++ is not on PATH")
    folder = tmp_path_factory.mktemp("bench")

    def sh(command: str) -> None:
        subprocess.run(command, shell=True, cwd=folder, check=True, env=clean_environ(None))

    sh("echo 'int tree(void) { return 1; }' > tree.c; echo 'int own(void) { return 2; }' > own.c")
    sh("gcc -fPIC -c tree.c own.c; gcc -shared -nostdlib -o tree.so tree.o")
    sh("gcc -static -nostdlib -Wl,-e,tree -o tree tree.o; echo hello > hello.txt")
    sh("ar rc tree.a tree.o; ar rcS unindexed.a tree.o; ar rc empty.a; ar rc text.a hello.txt")
    sh("ar rc text_first.a hello.txt tree.o 2> /dev/null; ranlib text_first.a")
    read = {file.name: file.read_bytes() for file in folder.iterdir()}
    other = for_machine(read["tree.o"], 183)
    (folder / "other.o").write_bytes(other)
    sh("ar rcS other.a other.o; ar rcS other_first.a other.o tree.o")
    archive = read["tree.a"]
    return Bench(
        folder / "own.o",
        {
            "shared": read["tree.so"],
            "archive": archive,
            "other machine": for_machine(read["tree.so"], 183),
            "other machine's archive": (folder / "other.a").read_bytes(),
            "other machine first": (folder / "other_first.a").read_bytes(),
            "32 bit": small_elf(1, 3, 3),
            "x32": small_elf(1, 62, 3),
            "header only": small_elf(2, 62, 3),
            "object without sections": small_elf(2, 62, 1),
            "core": small_elf(2, 62, 4),
            "cut": read["tree.so"][:-100],
            "cut early": read["tree.so"][:40],
            "cut other machine": for_machine(read["tree.so"], 183)[:700],
            "executable": read["tree"],
            "other machine's executable": for_machine(read["tree"], 183),
            "object": read["tree.o"],
            "other machine's object": other,
            "empty": b"",
            "blank": b" \n\t\n",
            "comment": b"/* nothing here */\n",
            "unfinished comment": b"/* nothing here",
            "git-lfs": GIT_LFS,
            "html": b"<!DOCTYPE html>\n<html></html>\n",
            "junk": b"\x01\x02\xff\xfe" * 50,
            "zeros": bytes(4096),
            "link text": b"libalder.so.1\n",
            "empty archive": read["empty.a"],
            "unindexed": read["unindexed.a"],
            "text archive": read["text.a"],
            "text first": read["text_first.a"],
            "bad archive": b"!<arch>\nthis is none\n",
            "cut archive": archive[:-300],
            "cut archive's member header": archive[:200],
        },
    )


def for_machine(data: bytes, machine: int) -> bytes:
    return data[:18] + struct.pack("<H", machine) + data[20:]


def small_elf(bits_class: int, machine: int, kind: int) -> bytes:
    """Return an ELF file that is a header and nothing else."""
    ident = b"\x7fELF" + bytes([bits_class, 1, 1]) + bytes(9)
    if bits_class == 1:
        return ident + struct.pack("<HHIIIIIHHHHHH", kind, machine, 1, 0, 0, 0, 0, 52, 0, 0, 0, 0, 0)
    return ident + struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0)


# --- generated layouts --------------------------------------------------------------------------------------

#: A script leads from alder to birch to cedar only: ld never ends on scripts that lead back.
LEADS_TO = {"alder": ("birch", "cedar"), "birch": ("cedar",)}
FOLDERS = ("a", "b", "lib", "cwd", "cwd/near", "a/x86_64-linux-gnu")
PLACES = (
    "{root}/a", "{root}/b", "{root}/lib", "{root}/a/", "{root}/b//", "{root}/a/../b", "{root}/cwd/../lib/",
    "{root}/link", "{root}/link/../lib", "{root}/missing", "{root}/missing/../a", "{root}/gone/.h/../b",
    "gone/../near", "{root}/a/../gone/../b", "{root}/a/libalder.so", "../a", "../b/", ".", "near",
    "./near/../near",
)  # fmt: skip
SAMPLES = (
    "shared", "archive", "other machine", "other machine's archive", "other machine first", "32 bit", "x32",
    "header only", "object without sections", "core", "cut", "cut early", "cut other machine", "executable",
    "other machine's executable", "object", "other machine's object", "empty", "blank", "comment",
    "unfinished comment", "git-lfs", "html", "junk", "zeros", "link text", "empty archive", "unindexed",
    "text archive", "text first", "bad archive", "cut archive", "cut archive's member header",
)  # fmt: skip
#: Taken more often than the rest, so that a search goes past several folders before it ends.
PASSED = (
    "other machine",
    "other machine's archive",
    "32 bit",
    "other machine's executable",
    "other machine first",
)
STANDING = ("dangling", "loop", "folder", "relative link", "absolute link", "link to a bad file", "/dev/null")


class Layout(NamedTuple):
    """Folders with files, and one link. Texts have {root} for the temporary folder."""

    files: dict[str, tuple[str, str]]  #: by path: ("sample", kind), ("stand", kind) or ("script", text)
    link: str  #: the folder that `link` leads to
    own: list[str]  #: of -L
    library_path: str | None
    name: str


def file_names_of(tree: str) -> list[str]:
    return [f"lib{tree}.so", f"lib{tree}.a", f"lib{tree}.so.1"]


def names(tree: str) -> st.SearchStrategy[list[str]]:
    least = 1 if tree == "alder" else 0
    return st.lists(st.sampled_from(file_names_of(tree)), min_size=least, max_size=2, unique=True)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    files = {}
    for folder in FOLDERS:
        for tree in ("alder", "birch", "cedar"):
            for name in draw(names(tree)):
                files[f"{folder}/{name}"] = draw(contents(tree))
    own = draw(st.lists(st.sampled_from(PLACES), max_size=4))
    entries = st.lists(st.sampled_from((*PLACES, "", "")), min_size=1, max_size=4)
    library_path = draw(st.one_of(st.none(), st.just(""), entries.map(":".join), entries.map(":".join)))
    name = draw(
        st.sampled_from(("alder", "alder", "alder", ":libalder.so.1", ":libalder.so", ":near/libalder.so"))
    )
    return Layout(files, draw(st.sampled_from(FOLDERS)), own, library_path, name)


@st.composite
def contents(draw: st.DrawFn, tree: str) -> tuple[str, str]:
    kinds = ["sample", "passed", "stand"] + ["script"] * (2 if tree in LEADS_TO else 0)
    kind = draw(st.sampled_from(kinds))
    if kind == "script":
        return "script", draw(scripts(tree))
    if kind == "stand":
        return "stand", draw(st.sampled_from(STANDING))
    return "sample", draw(st.sampled_from(PASSED if kind == "passed" else SAMPLES))


@st.composite
def scripts(draw: st.DrawFn, tree: str) -> str:
    """Draw a linker script: mostly a good one, at times with a slip."""
    members = st.one_of([st.sampled_from(member_forms(other)) for other in LEADS_TO[tree]])
    parts = []
    for _ in range(draw(st.integers(0, 2))):
        inside = draw(st.lists(members, min_size=1, max_size=3))
        if draw(st.booleans()):
            inside[-1] = f"AS_NEEDED ( {inside[-1]} )"
        separator = draw(st.sampled_from((" ", "\n  ", " , ", ", ", ",", " /* and */ ")))
        parts.append(f"{draw(st.sampled_from(('INPUT', 'GROUP', 'GROUP ')))}({separator.join(inside)})")
    asides = (
        "OUTPUT_FORMAT(elf64-x86-64)", 'OUTPUT_FORMAT ( "elf64-x86-64" )', "OUTPUT_FORMAT(elf32-i386)",
        "OUTPUT_FORMAT(elf64-littleaarch64)", "OUTPUT_FORMAT(elf64-x86-64, elf64-x86-64, elf64-x86-64)",
        "OUTPUT_FORMAT(elf64-x86-64 , elf64-x86-64 , elf64-x86-64)", "/* GNU ld script */", "# a remark\n",
        "age = 7;", "age=7;", "ENTRY(own)", ";", "INPUT()", "INPUT libbirch.so", "hello", "INPUT(libcedar.so",
        "GROUP ( -lcedar ) )", "INPUT(,-lcedar)", "caf\u00e9",
    )  # fmt: skip
    for _ in range(draw(st.integers(0, 1))):
        parts.insert(draw(st.integers(0, len(parts))), draw(st.sampled_from(asides)))
    return "\n".join(parts) + "\n"


def member_forms(tree: str) -> list[str]:
    return [
        f"-l{tree}", f"-l{tree}", f"-l:lib{tree}.so.1", f"lib{tree}.so", f"lib{tree}.a", f'"lib{tree}.so"',
        f"{{root}}/a/lib{tree}.so", f"{{root}}/b/lib{tree}.a", f"{{root}}/missing/lib{tree}.so",
        f"../b/lib{tree}.so", f"near/lib{tree}.so", f"x86_64-linux-gnu/lib{tree}.so",
        "-lnowhere", "libnowhere.so",
    ]  # fmt: skip


def build(layout: Layout, root: Path, samples: Mapping[str, bytes]) -> None:
    for folder in (*FOLDERS, "store"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "link").symlink_to(layout.link)
    (root / "store/good.so").write_bytes(samples["shared"])
    (root / "store/bad.so").write_bytes(GIT_LFS)
    for path, (kind, detail) in layout.files.items():
        file = root / path
        if kind == "sample":
            file.write_bytes(samples[detail])
        elif kind == "script":
            file.write_bytes(detail.replace("{root}", str(root)).encode())
        else:
            stand(file, detail, root)


def stand(file: Path, kind: str, root: Path) -> None:
    match kind:
        case "dangling":
            file.symlink_to("../store/gone.so")
        case "loop":
            file.symlink_to(file.name)
        case "folder":
            file.mkdir()
        case "relative link":
            file.symlink_to(os.path.relpath(root / "store/good.so", file.parent))
        case "absolute link":
            file.symlink_to(root / "store/good.so")
        case "link to a bad file":
            file.symlink_to(os.path.relpath(root / "store/bad.so", file.parent))
        case _:
            file.symlink_to("/dev/null")


@pytest.mark.parametrize(("command", "examples"), [("g++", EXAMPLES), ("g++-11", FEW), ("clang++-14", FEW)])
def test_the_model_says_what_ld_says(command: str, examples: int, bench: Bench) -> None:
    if shutil.which(command) is None:
        pytest.skip(f"{command} is not on PATH")
    compiler = search_of(command)
    ended: Counter[str] = Counter()

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize="CUDADOCTOR_EXAMPLES" not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(layouts())
    def compare(layout: Layout) -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder).resolve()
            build(layout, root, bench.samples)
            own = [place.replace("{root}", str(root)) for place in layout.own]
            library_path = layout.library_path and layout.library_path.replace("{root}", str(root))
            cwd = str(root / "cwd")
            resolution = ask_model(compiler, own, layout.name, cwd, library_path)
            told = ask_ld(
                command,
                [*(f"-L{place}" for place in own), f"-l{layout.name}"],
                bench.object_file,
                cwd,
                library_path,
            )
            assert_same(resolution, told, cwd)
            ended[resolution.ends] += 1
            ended["script"] += bool(resolution.members)
            ended["passed"] += bool(resolution.passed)

    compare()
    assert sum(ended[verdict] for verdict in ("found", "missing", "fatal")) >= examples
    assert min(ended[each] for each in ("found", "missing", "fatal", "script", "passed")) >= examples // 20, (
        ended
    )


# --- single cases -------------------------------------------------------------------------------------------

SCRIPTS = (
    "", ";;;", "INPUT(-lgood)", 'INPUT("libgood.so")', "INPUT(-lgood) # trailing", "  # first\nINPUT(-lgood)",
    "# only a remark", "#INPUT(-lgone)", "INPUT(,-lgood)", "INPUT(-lgood,)", "INPUT(-lgood,-lgood)",
    "INPUT(-lgood -lgood)", "INPUT(-lgood , -lgood)", "INPUT(libgood.so, -lgood)",
    "INPUT(libgood.so , , -lgood)", "INPUT(AS_NEEDED(-lgood)AS_NEEDED(-lgone))",
    "INPUT(AS_NEEDED(AS_NEEDED(libgood.so)))", "AS_NEEDED(-lgood)", "INPUT(AS_NEEDED -lgood)",
    "INPUT(GROUP(-lgood))", "INPUT((-lgood))", "INPUT(INPUT)", "INPUT -lgood", "INPUT()",
    "GROUP ( -lgone ) INPUT(-lgood)", "GROUP(-lgood)GROUP(-lgood)", "input(-lgood)", "INPUT(-lgood",
    "INPUT(-lgood]", "/* c", "/* c */", "/* c **/INPUT(/* c */ -lgood)", "INPUT(libgood.so/* c */)",
    "INPUT(/* c */)", "INPUT(\t-lgood\r\n)\r\n", "INPUT(-lgood)\x0c", "\u00efINPUT(-lgood)",
    "../libgood.so.1", "libgood.so.1\n", "!<symlink>../lib/libgood.so", "<html>",
    "hello OUTPUT_FORMAT(elf32-i386) world", "OUTPUT_FORMAT(elf64-x86-64",
    "OUTPUT_FORMAT(elf64-x86-64) OUTPUT_FORMAT(elf64-x86-64)",
    "OUTPUT_FORMAT(elf32-i386 , x , y) INPUT(-lgone)",
    'OUTPUT_FORMAT("elf32-i386", "elf32-i386", "elf64-x86-64")', '"OUTPUT_FORMAT"(elf32-i386)',
    "OUTPUT_FORMAT(elf32-i386, elf32-i386, elf32-i386)",
    "OUTPUT_FORMAT(elf64-x86-64,elf64-x86-64,elf64-x86-64)", "/* OUTPUT_FORMAT(elf32-i386) */",
    "# OUTPUT_FORMAT(elf32-i386)\n", "hello \x01 OUTPUT_FORMAT(elf32-i386)", "age = 7;", "age =7;", "age=7;",
    "age= 7;", "age = 7", "age := 7;", "age = 0x10; INPUT(-lgood)", "ENTRY(own)", "age = 1 < 2;",
    "age = 1 * 2;", "LIB(-lgood)",
)  # fmt: skip
#: What ld takes in good part, and the model does not follow: it must say so.
NOT_FOLLOWED = (
    "SEARCH_DIR(b) INPUT(-lgood)", "INCLUDE other", "VERSION { V1 { global: x; }; }", "PROVIDE(x = 1);",
    "TARGET(elf64-x86-64) INPUT(-lgood)", "OUTPUT_ARCH(i386:x86-64)", "EXTERN(a b)", 'INPUT("-lgood")',
    "INPUT(-lgood #c\n -lgood)", "INPUT(=libgood.so)", "INPUT(3libgood.so)", "age = height + 1;",
    "SECTIONS { } INSERT AFTER .text;",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, bench: Bench) -> Path:
    """Return a folder with a good library in b; a is where the test puts its own."""
    for name in ("a", "b", "cwd"):
        (tmp_path / name).mkdir()
    for name in ("alder", "good"):
        (tmp_path / f"b/lib{name}.so").write_bytes(bench.samples["shared"])
    return tmp_path


def both(folder: Path, bench: Bench, command: str = "g++") -> tuple[Resolution, Told]:
    own, cwd = [f"{folder}/a", f"{folder}/b"], str(folder / "cwd")
    flags = [*(f"-L{place}" for place in own), "-lalder"]
    resolution = ask_model(search_of(command), own, "alder", cwd, None)
    return resolution, ask_ld(command, flags, bench.object_file, cwd, None)


@pytest.mark.parametrize("text", SCRIPTS)
def test_a_linker_script_is_read_as_ld_reads_it(text: str, folder: Path, bench: Bench) -> None:
    (folder / "a/libalder.so").write_text(text, encoding="latin-1")
    resolution, told = both(folder, bench)
    assert_same(resolution, told, str(folder / "cwd"))


@pytest.mark.parametrize("text", NOT_FOLLOWED)
def test_a_script_that_is_not_followed_is_unknown(text: str, folder: Path, bench: Bench) -> None:
    (folder / "a/libalder.so").write_text(text)
    resolution = ask_model(search_of("g++"), [f"{folder}/a"], "alder", str(folder), None)
    assert resolution.verdict == "unknown"
    assert resolution.path == f"{folder}/a/libalder.so"


def test_a_fifo_is_unknown_for_ld_would_wait_on_it(folder: Path) -> None:
    os.mkfifo(folder / "a/libalder.so")
    resolution = ask_model(search_of("g++"), [f"{folder}/a", f"{folder}/b"], "alder", str(folder), None)
    assert resolution.verdict == "unknown"


def test_a_script_that_names_itself_never_ends(folder: Path, bench: Bench) -> None:
    (folder / "a/libalder.so").write_text("INPUT(-lalder)")
    resolution = ask_model(search_of("g++"), [f"{folder}/a"], "alder", str(folder), None)
    assert resolution.ends == "fatal"
    argv = ["g++", "-nostdlib", "-shared", str(bench.object_file), f"-L{folder}/a", "-lalder", "-Wl,-t"]
    with subprocess.Popen(
        [*argv, "-o", str(folder / "out.so")], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as linker:
        assert linker.stdout is not None
        traced = [linker.stdout.readline().strip() for _ in range(50)]
        os.killpg(linker.pid, signal.SIGKILL)
    assert set(traced[1:]) == {f"{folder}/a/libalder.so"}


def as_nobody(function: Callable[[], None]) -> None:
    """Call `function` where permissions count: in a child that is not root."""
    if os.geteuid() != 0:
        return function()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            function()
        except BaseException:
            os.write(writing, traceback.format_exc().encode()[:60000])
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        problem = pipe.read()
    os.waitpid(child, 0)
    assert not problem, problem
    return None


@pytest.mark.parametrize("hidden", ["a/libalder.so", "a", "b", "a b"])
def test_what_may_not_be_read_is_searched_past(hidden: str, bench: Bench) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve()
        folder.chmod(0o777)
        for name in ("a", "b", "cwd"):
            (folder / name).mkdir()
        for name in ("a/libalder.so", "b/libalder.so"):
            (folder / name).write_bytes(bench.samples["shared"])
        own = bench._replace(object_file=folder / "own.o")
        shutil.copy(bench.object_file, own.object_file)

        def compare() -> None:
            resolution, told = both(folder, own)
            assert_same(resolution, told, str(folder / "cwd"))
            assert resolution.verdict == ("missing" if hidden == "a b" else "found")
            assert hidden == "b" or not resolution.path.startswith(f"{folder}/a/")

        for name in hidden.split():
            (folder / name).chmod(0)
        try:
            as_nobody(compare)
        finally:
            for name in hidden.split():
                (folder / name).chmod(0o755)


def test_ld_names_what_it_cannot_find_as_it_was_asked_for(folder: Path, bench: Bench) -> None:
    for flag in ("-lgone", "-l:libgone.so.1"):
        told = ask_ld("g++", [flag], bench.object_file, str(folder), None)
        assert told.missing == [flag]
        assert f"cannot find {flag}" in told.text


# --- the order of the folders -------------------------------------------------------------------------------

COMPILERS = (
    "g++", "g++-11", "g++-12", "clang++-14", "g++ -fuse-ld=gold",
    "g++ -fuse-ld=bfd", "g++ -m32", "g++ -L/opt -B/usr/lib", "g++ -specs={root}/early",
    "g++ -specs={root}/late", "clang++-14 -fuse-ld=gold",
)  # fmt: skip
LIBRARY_PATHS = (
    None, "", ":", "{root}/a", "{root}/a/", "{root}/a:", ":{root}/a", "{root}/a::{root}/b/", "a:./b:a//",
    "{root}/b:{root}/a", "{root}/gone", "{root}/gone/../a", "gone/../a:./gone/../b", "{root}/a/../b",
    "{root}/a/.gone/../../b", "{root}/x/.gone/../b", "gone/too/../../a", "a/gone/../../b",
    "{root}/a/libalder.so", "{root}/link", "/usr/lib", "/lib:/usr/lib/", "/lib//",
    "{root}/b/../a:/usr/local/lib",
)  # fmt: skip


def shown_folders(command: str, own: list[str], cwd: str, library_path: str | None) -> list[str]:
    """Return the -L folders of the command line that the driver would start the linker with."""
    argv = [*shlex.split(command), "-###", "-shared", "own.o", *(f"-L{place}" for place in own)]
    ran = subprocess.run(argv, cwd=cwd, env=clean_environ(library_path), capture_output=True, text=True)
    line = [line for line in ran.stderr.splitlines() if line.startswith(" ") and f"-L{own[0]}" in line][-1]
    words = shlex.split(line)
    following = dict(zip(range(len(words)), words[1:], strict=False))
    return [word[2:] or following[i] for i, word in enumerate(words) if word.startswith("-L")]


@pytest.mark.parametrize("command", COMPILERS)
def test_the_folders_are_those_of_the_drivers_own_command_line(
    command: str, folder: Path, bench: Bench
) -> None:
    program = command.split()[0]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not on PATH")
    if "gold" in command and shutil.which("ld.gold") is None:
        pytest.skip("ld.gold is not on PATH")
    (folder / "a/x86_64-linux-gnu/12").mkdir(parents=True)
    (folder / "lib").mkdir()
    (folder / "x").mkdir()
    (folder / "a/libalder.so").touch()
    (folder / "own.o").write_bytes(bench.object_file.read_bytes())
    (folder / "link").symlink_to("a")
    (folder / "early").write_text(f"*link:\n+ -L{folder}/lib -L {folder}/b\n\n")
    (folder / "late").write_text(f"*link_libgcc:\n%D -L {folder}/lib -L{folder}/b\n\n")
    compiler = search_of(command.replace("{root}", str(folder)))
    assert compiler.search is not None, compiler.problem
    for library_path in LIBRARY_PATHS:
        value = library_path and library_path.replace("{root}", str(folder))
        own = [f"{folder}/b", "a", f"{folder}/a/../b/"]
        real = shown_folders(compiler.command, own, str(folder), value)
        assert given_to_ld(compiler, own, folder, value, len(real)) == real, library_path


def given_to_ld(
    compiler: Compiler, own: list[str], cwd: Path, library_path: str | None, count: int
) -> list[str]:
    """Return the first `count` folders of the model: GCC hands on only those that exist, Clang all."""
    assert compiler.search is not None
    model = expand(compiler.search, own, library_path, lambda folder: (cwd / folder).is_dir())
    if compiler.family == "gcc":
        model = [folder for folder in model if (cwd / folder).is_dir()]
    return model[:count]
