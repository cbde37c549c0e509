"""The resolver's model against its judges, `pip check` and `uv pip check`, on environments made on the spot.

A venv without packages gets metadata folders and nothing else: that is all that the judges look at. For a
real stack: CUDADOCTOR_STACK=/path/to/venv python -m pytest -m stack tests/real/test_resolver.py
"""

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest

from cudadoctor.facts import Machine, Packages
from cudadoctor.host import RealHost
from cudadoctor.probes import machine, packages, target
from cudadoctor.probes.target import Request
from cudadoctor.simulate import requirements as model

from .conftest import _do_without

#: (who requires, whom; "" for Python). Both judges name these in any wording.
Pairs = set[tuple[str, str]]
WHEEL = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


class Made(NamedTuple):
    """One distribution to be made."""

    name: str
    version: str
    requires: tuple[str, ...] = ()
    python: str = ""
    folder: str = ""


class Venv:
    """An empty venv whose site-packages a test fills."""

    def __init__(self, prefix: Path, uv: str) -> None:
        self.prefix, self.uv = prefix, uv
        (self.site,) = prefix.glob("lib/python3*/site-packages")

    def fill(self, made: Sequence[Made]) -> None:
        for entry in self.site.iterdir():
            shutil.rmtree(entry)
        for each in made:
            stem = each.folder or f"{re.sub(r'[-_.]+', '_', each.name)}-{each.version}"
            folder = self.site / f"{stem}.dist-info"
            folder.mkdir()
            lines = ["Metadata-Version: 2.1", f"Name: {each.name}", f"Version: {each.version}"]
            lines += [f"Requires-Python: {each.python}"] if each.python else []
            lines += [f"Requires-Dist: {line}" for line in each.requires]
            (folder / "METADATA").write_text("\n".join([*lines, "", "Requires-Dist: body", ""]))
            (folder / "WHEEL").write_text(WHEEL)

    def by_model(self, **other: str) -> Pairs:
        return by_model(self.prefix, **other)

    def by_pip(self) -> Pairs:
        return by_pip(self.prefix)

    def by_uv(self, *options: str) -> Pairs:
        return by_uv(self.uv, self.prefix, *options)


def by_model(prefix: Path, python: str = "", arch: str = "") -> Pairs:
    """Return what we say, for another Python or machine if one is named."""
    host = RealHost(environ())
    seen = target.probe(host, Request(prefix=str(prefix)))
    found: Packages = packages.probe(host, seen)
    here = machine.probe(host)
    if python or arch:
        import msgspec

        seen = msgspec.structs.replace(seen, version=python or seen.version)
        here = msgspec.structs.replace(here, arch=arch or here.arch)
    assert isinstance(here, Machine)
    where = model.environments(seen, here)
    conflicts = model.conflicts(model.read(found, where), found, where)
    return {(conflict.want.holder.name, conflict.want.name) for conflict in conflicts}


def environ() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, "LC_ALL": "C", "NO_COLOR": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


_PIP = re.compile(
    r"^(\S+) \S+ (?:requires ([^,\s]+), which is not|has requirement (\S+?)[\s\[=<>!~;@(].*, but you)"
)


def by_pip(prefix: Path) -> Pairs:
    if int(metadata.version("pip").split(".")[0]) < 25:
        _do_without("this pip is too old a judge: it dies of broken metadata")
    command = [sys.executable, "-m", "pip", "--python", f"{prefix}/bin/python", "check"]
    ran = subprocess.run(command, capture_output=True, text=True, env=environ(), cwd="/")
    assert "Error parsing" not in ran.stderr and ran.returncode in (0, 1), ran.stderr
    lines = [line for line in ran.stdout.splitlines() if "not supported on this platform" not in line]
    assert ran.returncode == 0 or lines
    return _pairs(_PIP, [line for line in lines if not line.startswith("No broken")])


_UV = re.compile(
    r"^The package `(\S+)` requires (?:(Python) .*|`([^\s`\[=<>!~;@(]+)[^`]*`), "
    r"but (?:it's not|`\S+` is) installed"
)


def by_uv(uv: str, prefix: Path, *options: str) -> Pairs:
    """Return what uv says, but for what is no requirement: duplicates, and wheels of other platforms."""
    command = [uv, "pip", "check", "--python", f"{prefix}/bin/python", *options]
    ran = subprocess.run(command, capture_output=True, text=True, env=environ(), cwd="/")
    assert ran.returncode in (0, 1), ran.stderr
    lines = [line for line in (ran.stdout + ran.stderr).splitlines() if line.startswith("The package")]
    other = ("multiple installed", "different platform", "broken or incomplete")
    return _pairs(_UV, [line for line in lines if not any(word in line for word in other)])


def _pairs(form: re.Pattern[str], lines: Sequence[str]) -> Pairs:
    found = set()
    for line in lines:
        match = form.match(line)
        assert match, line
        holder, *names = match.groups()
        name = next(filter(None, names))
        found.add((packages.normalise(holder), "" if name == "Python" else packages.normalise(name)))
    return found


@pytest.fixture(scope="module")
def uv() -> str:
    """Return the path of uv: of this environment, or on PATH."""
    found = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        _do_without("uv is not installed")
    return found


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory, uv: str) -> Venv:
    """Return an empty venv of this interpreter."""
    prefix = tmp_path_factory.mktemp("resolver") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(prefix)], check=True)
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode:
        _do_without("pip is not installed")
    return Venv(prefix, uv)


# --- what is tricky, one by one -----------------------------------------------------------------------------

B = Made("b", "1")


def asks(*requires: str) -> Made:
    """Return the distribution that requires these."""
    return Made("holder", "1", requires)


def all_at(version: str, *requires: str) -> tuple[Made, ...]:
    """Return one that requires these, and every project that they name, in one version."""
    names = dict.fromkeys(re.split(r"[^a-z]", line)[0] for line in requires)
    return (asks(*requires), *(Made(name, version) for name in names))


TRICKY: dict[str, tuple[Made, ...]] = {
    "missing": (asks("b>=2", "c", "d [x,y] >= 1"), B),
    "itself": (Made("a", "1", ("a==2", "a[x]")),),
    "an extra that is named": (asks("b[x]>=1"), Made("b", "1", ("c; extra == 'x'",))),
    "extras in odd places": (
        asks("b; extra != 'x'", "d; extra == 'x' or python_version > '3'",
             "e; (extra == 'x') and python_version > '3'", "f; extra == 'x' and (os_name == 'posix')"),
    ),
    "local versions": all_at(
        "2.9.0+cu128", "b==2.9.0", "c>=2.9.0", "d<=2.9.0", "e>2.9.0", "f<2.9.0", "g~=2.9.0", "h==2.9.*",
        "i!=2.9.0", "j===2.9.0", "k==2.9.0+cu126", "l==2.9.0+cu128", "m!=2.9.0+cu128",
    ),
    "pre-releases": all_at(
        "2.0rc1", "b>=1", "c>1.9", "d<2.0", "e<=2.0", "f<2.0rc2", "g~=1.0", "h>=2.0", "i==2.0.*", "j!=2.0",
        "k<3", "l>2.0rc0", "m===2.0rc1",
    ),
    "development versions": all_at(
        "2.1.dev0", "b>=1", "c<2.1.dev1", "d<2.1", "e>2.0", "f>=2.1.dev0", "g==2.1.*"
    ),
    "post releases": all_at(
        "2.0.post1", "b>=1", "c>2.0", "d>=2.0.post1", "e==2.0", "f<=2.0", "g<2.0.post2", "h~=2.0", "i==2.0.*",
        "j!=2.0",
    ),
    "epochs": all_at("1!2.0", "b>=1", "c>=1!1", "d<1!0", "e<2", "f==1!2.0", "g==2.0"),
    "zeros": all_at("1.0", "b===1.0", "d===2", "e==1", "f==1.0.0.0", "g==01.0", "h==1.0.0.*", "i~=1.0.0"),
    "URLs": (
        asks("b @ https://x.org/b-9.whl", "c @ file:///x/c.whl ; python_version > '3'",
             "d[x] @ git+https://x.org/d@main ; python_version < '3'"),
        B,
    ),
    "names": (
        asks("B_b.b>=2", "C.c", "Zope.Interface", "e__e<1"),
        Made("b-b-b", "1"), Made("c_c", "1"), Made("zope.interface", "6"), Made("E-e", "1"),
    ),
    "forms": (
        asks("b (>=2)", "c(==1)", 'd [x] >=3 ; python_version>"3"', "e >= 1 , < 2", "f==1.*",
             "g == 1.0 , != 1.0.1", "h   ", "i(<3,>=2)", "j==v1"),
        B, *(Made(name, "3") for name in "cdefgij"),
    ),
    "markers": (
        asks("c; python_version in '3.9 3.10 3.11 3.12 3.13'", "d; python_full_version < '3.0.1'",
             "e; os_name=='posix'", "f; 'linux' in sys_platform", "k; python_version >= '3.8'",
             "g; implementation_name=='cpython' and (python_version<'3' or sys_platform=='linux')",
             "h; platform_machine == 'riscv' or platform_system == 'Linux'",
             "i; python_implementation=='CPython'", "j; sys.platform == 'win32'",
             "l; '3.8' <= python_version", "m; python_version == '3.*'", "n; platform_machine != ''"),
    ),
    "the folder's version counts": (Made("a", "1", ("c",), folder="a-2"), asks("a>=2")),
    "the folder's name counts": (Made("b", "1", ("c",), folder="a-1"), asks("a>=2", "b")),
}  # fmt: skip


@pytest.mark.parametrize("case", TRICKY)
def test_both_judges_say_the_same(case: str, venv: Venv) -> None:
    venv.fill(TRICKY[case])
    ours = venv.by_model()
    assert ours == venv.by_uv() == venv.by_pip()


#: Where they differ, and whom we follow: (as pip, as uv).
ONE_SIDED: dict[str, tuple[tuple[Made, ...], bool, bool]] = {
    "Requires-Python": ((Made("a", "1", python=">=3.99"), Made("b", "1", python="~=3.99")), False, True),
    "Requires-Python's upper bound": ((Made("a", "1", python=">=3.6,<3.8,!=3.9.*"),), True, True),
    "the same version in other words": (all_at("1.0", "b===1.00", "c===1"), False, True),
    "two folders of one project": (
        (Made("a", "1", ("c>=3",)), Made("c", "1", ("gone",)), Made("c", "2", ("gone",))), False, True
    ),
    "an extra without a name": ((Made("a", "1", ("b; extra == ''",)),), False, True),
}  # fmt: skip


@pytest.mark.parametrize("case", ONE_SIDED)
def test_where_they_differ_we_say_what_the_named_one_says(case: str, venv: Venv) -> None:
    made, as_pip, as_uv = ONE_SIDED[case]
    venv.fill(made)
    ours = venv.by_model()
    assert (ours == venv.by_pip(), ours == venv.by_uv()) == (as_pip, as_uv)


@pytest.mark.parametrize(
    "line", ["b>=2.*", "b>=2,<3,", "b>=2<3", "b !=~1.0", "b (>=1.9.*)", "b>='2'", "b>=2; python_version>='3'"]
)
def test_what_pip_cannot_read_is_mended_as_uv_does(line: str, venv: Venv) -> None:
    venv.fill((Made("a", "1", (line, "c")), B))
    assert venv.by_model() == venv.by_uv()


def test_a_folded_requirement_is_read_as_uv_does(venv: Venv) -> None:
    venv.fill((Made("a", "1", ("b\n        >=2", "c>=1,\n  <2")), B, Made("c", "5")))
    assert venv.by_model() == venv.by_uv() == {("a", "b"), ("a", "c")}


@pytest.mark.parametrize("bad", ["b>>>1", "b @", "b; nonsense == 3", "b>>>1; extra == 'x'", "b; extra == 'x"])
def test_what_nobody_can_read_leaves_its_holder_unjudged(bad: str, venv: Venv) -> None:
    venv.fill((Made("a", "1", (bad, "c>=9")), Made("c", "1"), Made("z", "1", ("a>=2",))))
    assert venv.by_model() == venv.by_uv() == {("z", "a")}


@pytest.mark.parametrize(
    "content", [None, b"", b"\0" * 100, b"Metadata-Version: 2.1\nName: a\n\n", b"Version: 1\n"]
)
def test_broken_metadata_is_judged_alike(content: bytes | None, venv: Venv) -> None:
    venv.fill((Made("a", "1", ("c",)), Made("z", "1", ("a>=2",))))
    file = venv.site / "a-1.dist-info/METADATA"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    assert venv.by_model() == venv.by_uv() == venv.by_pip() == {("z", "a")}


# --- many, made at random -----------------------------------------------------------------------------------

NAMES = ("torch", "vllm", "nvidia-x-cu12", "zope.interface", "a_b", "c", "d")
SPELLED = (
    "torch",
    "Torch",
    "VLLM",
    "nvidia_x.cu12",
    "zope-interface",
    "A.b",
    "c",
    "d[extra]",
    "c [x,y]",
    "gone",
)
VERSIONS = ("1", "1.0", "2.9.0+cu128", "2.10.1", "2.0rc1", "3.0.dev1", "1!1.0", "1.0.post1", "0.7.2.post1",
            "12.8.4.1", "2024.1", "0.66b2", "2.9", "1.0+local.1")  # fmt: skip
OPERATORS = (">=", "<=", ">", "<", "==", "!=", "~=")
OPERANDS = ("1.0", "1.1", "2.9.0", "2.9", "2.0rc1", "1!1.0", "1.0.post1", "0.5", "3.0", "2024.1", "1.0.dev0")
MARKERS = (
    "", "", "", "; python_version >= '3.9'", "; python_version<'3.0'", "; extra == 'x'",
    "; sys_platform == 'linux' and python_version > '3.1'", " ; (os_name == 'nt' or os_name == 'posix')",
    "; platform_system == 'Windows'", "; platform_machine == 'x86_64' or platform_machine == 'aarch64'",
    "; python_full_version >= '3.8.1' and extra == 'x'", "; extra == 'x' or sys_platform == 'linux'",
    "; (python_version >= '3.9' and python_version < '3.10') and (extra == 'gui')",
    "; implementation_name == 'pypy'", "; sys_platform != 'win32' or platform_machine != 'ARM64'",
)  # fmt: skip


def line(rng: random.Random) -> str:
    name, marker = rng.choice(SPELLED), rng.choice(MARKERS)
    if rng.random() < 0.05:
        return f"{name} @ https://example.org/x.whl {marker}"
    count = rng.choice((0, 1, 1, 1, 2))
    parts = []
    for _ in range(count):
        operator, operand = rng.choice(OPERATORS), rng.choice(OPERANDS)
        star = operator in ("==", "!=") and operand.replace(".", "").isdigit() and rng.random() < 0.3
        parts.append(f"{operator}{operand}{'.*' if star else ''}")
    specifier = ",".join(parts)
    return f"{name}{f' ({specifier})' if specifier and rng.random() < 0.3 else specifier}{marker}"


def environment(rng: random.Random) -> list[Made]:
    """Return half a dozen distributions with tricky versions, and requirements on one another."""
    named = rng.sample(NAMES, rng.randint(3, len(NAMES)))
    requires = [tuple(line(rng) for _ in range(rng.randint(0, 5))) for _ in named]
    return [Made(name, rng.choice(VERSIONS), each) for name, each in zip(named, requires, strict=True)]


def test_generated_environments_have_the_conflicts_that_both_find(
    venv: Venv, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, count, judged = random.Random(20261121), 0, 0
    for number in range(120):
        made = environment(rng)
        venv.fill(made)
        ours = venv.by_model()
        assert ours == venv.by_uv(), made
        if number % 4 == 0:  # a start of pip takes most of a second
            assert ours == venv.by_pip(), made
            judged += 1
        count += sum(len(each.requires) for each in made)
    with capsys.disabled():
        print(
            f"\nresolver: 120 environments against uv, {judged} against pip, {count} requirements, all agree"
        )


@pytest.mark.parametrize(("python", "minor"), [("3.9.0", "3.9"), ("3.13.0", "3.13"), ("3.14.0", "3.14")])
@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_markers_are_evaluated_for_the_target(python: str, minor: str, arch: str, venv: Venv) -> None:
    lines = (
        "b; python_version < '3.10'", "c; python_full_version >= '3.13.0'",
        "d; platform_machine == 'aarch64'",
        "e; python_version > '3.9' and platform_machine == 'x86_64'", "f; python_version == '3.13'",
        "g; sys_platform == 'linux' and python_version != '3.13'",
    )  # fmt: skip
    venv.fill((Made("a", "1", lines, python=">=3.13"),))
    platform = f"{arch}-unknown-linux-gnu"
    theirs = venv.by_uv("--python-version", minor, "--python-platform", platform)
    assert venv.by_model(python=python, arch=arch) == theirs


# --- more than one folder -----------------------------------------------------------------------------------


def test_what_pythonpath_brings_counts_as_it_does_for_pip(
    venv: Venv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv.fill((Made("b", "1", ("gone",)),))
    shutil.move(venv.site / "b-1.dist-info", tmp_path / "b-1.dist-info")
    venv.fill((Made("a", "1", ("b>=2",)), Made("b", "2")))
    assert venv.by_model() == venv.by_pip() == set()
    inherited = environ
    monkeypatch.setitem(globals(), "environ", lambda: {**inherited(), "PYTHONPATH": str(tmp_path)})
    assert venv.by_model() == venv.by_pip() == {("a", "b"), ("b", "gone")}


def test_what_a_pth_file_adds_counts_as_it_does_for_pip(venv: Venv, tmp_path: Path) -> None:
    venv.fill((Made("b", "1"), Made("c", "1")))
    for name in ("b", "c"):
        (tmp_path / name).mkdir()
        shutil.move(venv.site / f"{name}-1.dist-info", tmp_path / name)
    venv.fill((Made("a", "1", ("b>=1", "c>=2", "d")),))
    try:
        (venv.site / "overlay.pth").write_text(f"import site; site.addsitedir({str(tmp_path / 'b')!r})\n")
        (venv.site / "plain.pth").write_text(f"# a remark\n{tmp_path / 'c'}\n/nowhere\nimport sys\n")
        assert venv.by_model() == venv.by_pip() == {("a", "c"), ("a", "d")}
    finally:
        for file in venv.site.glob("*.pth"):
            file.unlink()


# --- the real thing -----------------------------------------------------------------------------------------


@pytest.fixture
def shell_of(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """Return a function that copies a venv's metadata, and no more, into a new venv of its interpreter."""

    def copy(stack: Path) -> Path:
        prefix = tmp_path / "shell"
        python = (stack / "bin/python").resolve()
        subprocess.run([str(python), "-m", "venv", "--without-pip", str(prefix)], check=True)
        (site,) = prefix.glob("lib/python3*/site-packages")
        for entry in sorted(stack.glob("lib/python3*/site-packages/*.dist-info")):
            shutil.copytree(entry, site / entry.name)
        return prefix

    yield copy


@pytest.mark.stack
def test_a_real_stack_is_judged_as_both_judge_it(
    uv: str, shell_of: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """As it is, then with one distribution after another at another version, or gone."""
    named = os.environ.get("CUDADOCTOR_STACK")
    if not named:
        pytest.skip("CUDADOCTOR_STACK names no venv with the stack")
    assert by_model(Path(named)) == by_uv(uv, Path(named)) == by_pip(Path(named))
    prefix = shell_of(Path(named))
    folders = sorted(prefix.glob("lib/python3*/site-packages/*.dist-info"))
    count = 0
    for number, folder in enumerate(folders):
        name = folder.name.partition("-")[0]
        for other in (f"{name}-0.0.1rc1.dist-info", f"{name}-9999.1+local.dist-info", ""):
            moved = folder.rename(folder.with_name(other) if other else prefix / folder.name)
            try:
                ours = by_model(prefix)
                assert ours == by_uv(uv, prefix), (name, other)
                if number % 12 == 0:
                    assert ours == by_pip(prefix), (name, other)
            finally:
                moved.rename(folder)
            count += 1
    with capsys.disabled():
        print(f"\nresolver: {len(folders)} real distributions, {count} changes of one, all agree with uv")
