"""What activation files do in real shells: a child sees what the model says, and deactivation restores."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cudadoctor.actions import Export
from cudadoctor.exports import commands, files, outcome, persisted

from .conftest import _do_without

#: Shell, the arguments that keep the user's own files out, and the ending of the scripts that it sources.
SHELLS = {
    "bash": (["bash", "--norc"], "sh"),
    "zsh": (["zsh", "-f"], "sh"),
    "dash": (["dash"], "sh"),
    "fish": (["fish", "--no-config"], "fish"),
    "csh": (["csh", "-f"], "csh"),
    "tcsh": (["tcsh", "-f"], "csh"),
}
POSIX = [name for name, (_, ending) in SHELLS.items() if ending == "sh"]
HOSTILE = "/it's $HOME `id` $(id) !x #y *?[z] {a,b} ~ \\ \" \\' end"
#: Set by shells themselves, or of no interest.
NOISE = {"_", "PWD", "OLDPWD", "SHLVL", "PS1", "HOST", "HOSTTYPE", "LOGNAME", "MACHTYPE", "OSTYPE", "USER"}
NOISE |= {"VENDOR", "GROUP", "REMOTEHOST"}


class Shell:
    """A real shell that runs a script of ours and shows what its children see."""

    def __init__(self, name: str, folder: Path) -> None:
        self.argv, self.ending = SHELLS[name]
        if shutil.which(self.argv[0]) is None:
            if name == "tcsh" and shutil.which("csh"):
                pytest.skip("tcsh is not installed; csh is tested")
            _do_without(f"{self.argv[0]} is not on PATH")
        self.folder = folder

    def put(self, name: str, value: str) -> str:
        """Return the line that exports a plain value."""
        line = {"sh": "export {}='{}'", "fish": "set -gx {} '{}'", "csh": "setenv {} '{}'"}[self.ending]
        return line.format(name, value)

    def drop(self, name: str) -> str:
        return {"sh": "unset", "fish": "set -e", "csh": "unsetenv"}[self.ending] + f" {name}"

    def source(self, path: Path | str) -> str:
        return f"{'.' if self.ending == 'sh' else 'source'} '{path}'"

    def children(self, lines: Sequence[str], environ: Mapping[str, str]) -> list[dict[str, str]]:
        """Run the lines; return what a child saw at each line that is "show"."""
        for old in self.folder.glob("shown-*"):
            old.unlink()
        shown = [self.folder / f"shown-{index}" for index in range(lines.count("show"))]
        waiting = iter(shown)
        text = "\n".join(f"/usr/bin/env -0 > '{next(waiting)}'" if line == "show" else line for line in lines)
        script = self.folder / "script"
        script.write_text(text + "\n")
        base = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C.UTF-8"}
        ran = subprocess.run(
            [*self.argv, str(script)], env={**base, **environ}, capture_output=True, text=True, timeout=60
        )
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", ""), f"{ran}\n{text}"
        return [_variables(path.read_bytes()) for path in shown]


def _variables(dump: bytes) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in dump.decode().split("\0") if entry)
    return {name: value for name, _, value in pairs if name not in NOISE}


def plain(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if not name.startswith("_CUDADOCTOR_")}


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    return Shell(request.param, tmp_path)


def read(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return None


def persist(kind: str, prefix: Path, exports: Sequence[Export]) -> None:
    written = files(kind, str(prefix), exports, read)
    assert not written.left_out
    for path, content in written.files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content)
    assert persisted(kind, str(prefix), read) == tuple(exports)
    assert not files(kind, str(prefix), exports, read).files


def some_exports(prefix: Path) -> list[Export]:
    return [
        Export("CUDA_HOME", f"{prefix}/cuda"),
        Export("CC", ""),
        Export("NVCC_PREPEND_FLAGS", f"-I{prefix}/include {HOSTILE}"),
        Export("LIBRARY_PATH", add=(f"{prefix}/lib", HOSTILE), remove=("/bad", "/it's bad")),
        Export("LD_LIBRARY_PATH", remove=("/bad", "")),
        Export("CPATH", add=(f"{prefix}/include", f"{prefix}/targets/x86_64-linux/include")),
    ]


NAMES = [export.name for export in some_exports(Path("/x"))]
VALUES = [
    None,
    "",
    ":",
    "/a",
    "/a:",
    ":/a",
    "/a::/b",
    "/a;/bad;;/b",
    "/a:/a",
    "/bad:/a:/bad/",
    "/bad",
    "/bad//:/:/it's bad",
    "@/lib",
    "/u:@/lib/:@/include",
    HOSTILE,
    "-O2  -g",
]


def state(value: str | None, prefix: Path) -> dict[str, str]:
    return {} if value is None else dict.fromkeys(NAMES, value.replace("@", str(prefix)))


def expected(exports: Sequence[Export], variables: Mapping[str, str], prefix: Path) -> dict[str, str]:
    after = {**variables, **outcome(exports, variables, str(prefix))}
    return {name: value for name, value in after.items() if value is not None}


# --- conda --------------------------------------------------------------------------------------------------


def conda_start(shell: Shell, prefix: Path) -> list[str]:
    """Return what conda has a shell do to activate an environment."""
    folder = prefix / "etc/conda/activate.d"
    scripts = sorted(folder.glob(f"*.{shell.ending}"))
    return [shell.put("CONDA_PREFIX", str(prefix)), *map(shell.source, scripts)]


def conda_end(shell: Shell, prefix: Path, below: Path | None = None) -> list[str]:
    folder = prefix / "etc/conda/deactivate.d"
    scripts = sorted(folder.glob(f"*.{shell.ending}"), reverse=True)
    last = shell.put("CONDA_PREFIX", str(below)) if below else shell.drop("CONDA_PREFIX")
    return [*map(shell.source, scripts), last]


@pytest.fixture
def conda(tmp_path: Path) -> Path:
    prefix = tmp_path / "my env"
    persist("conda", prefix, some_exports(prefix))
    return prefix


@pytest.mark.parametrize("value", VALUES)
def test_a_conda_activation_comes_to_the_outcome_and_is_restored(
    shell: Shell, conda: Path, value: str | None
) -> None:
    lines = ["show", *conda_start(shell, conda), "show", *conda_end(shell, conda), "show"]
    before, active, after = shell.children(lines, state(value, conda))
    assert plain(active) == {**expected(some_exports(conda), before, conda), "CONDA_PREFIX": str(conda)}
    assert after == before


START = {"LIBRARY_PATH": "/mine:/bad", "CUDA_HOME": "/usr/local/cuda", "CC": "", "CPATH": "/mine/include"}


def test_activating_twice_loses_no_old_value(shell: Shell, conda: Path) -> None:
    start, end = conda_start(shell, conda), conda_end(shell, conda)
    before, active, after = shell.children(["show", *start, *start, "show", *end, "show"], START)
    assert plain(active) == {**expected(some_exports(conda), before, conda), "CONDA_PREFIX": str(conda)}
    assert after == before


def test_environments_are_activated_on_top_of_each_other(shell: Shell, conda: Path, tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    own = [Export("CUDA_HOME", f"{upper}/cuda"), Export("LIBRARY_PATH", add=(f"{upper}/lib",))]
    persist("conda", upper, own)
    lines = ["show", *conda_start(shell, conda), "show", *conda_start(shell, upper), "show"]
    lines += [*conda_end(shell, upper, below=conda), "show", *conda_end(shell, conda), "show"]
    before, lower, both, again, after = shell.children(lines, START)
    assert plain(both) == {**expected(own, plain(lower), upper), "CONDA_PREFIX": str(upper)}
    assert again == lower
    assert after == before


def test_what_was_changed_after_activation_is_kept(shell: Shell, conda: Path) -> None:
    ours = outcome(some_exports(conda), {"LIBRARY_PATH": "/mine:/bad"}, str(conda))["LIBRARY_PATH"]
    assert ours is not None
    changed = ours.replace("'", "'\\''").replace("!", "\\!" if shell.ending == "csh" else "!")
    if shell.ending == "fish":
        changed = ours.replace("\\", "\\\\").replace("'", "\\'")
    lines = [*conda_start(shell, conda), shell.put("LIBRARY_PATH", f"/new:{changed}:/newer")]
    lines += [shell.put("CUDA_HOME", "/own"), shell.drop("NVCC_PREPEND_FLAGS"), shell.put("CC", "cc")]
    (after,) = shell.children([*lines, *conda_end(shell, conda), "show"], START)
    assert after["LIBRARY_PATH"] == "/new:/mine:/newer"
    assert (after["CUDA_HOME"], after["CC"], after["CPATH"]) == ("/own", "cc", "/mine/include")
    assert "NVCC_PREPEND_FLAGS" not in after


def test_other_exports_while_activated_are_no_trouble(shell: Shell, conda: Path) -> None:
    start, end = conda_start(shell, conda), conda_end(shell, conda)
    later = [Export("CXX", "c++"), Export("LIBRARY_PATH", add=("/other",))]
    other = conda.parent / "other"
    persist("conda", other, later)
    swap = [f"rm -rf '{conda}/etc'", f"/bin/cp -r '{other}/etc' '{conda}/etc'"]
    before, active, after = shell.children(["show", *start, *swap, *start, "show", *end, "show"], START)
    assert plain(active) == {**expected(later, before, conda), "CONDA_PREFIX": str(conda)}
    assert after == before


def test_an_environment_that_was_moved_names_its_new_folder(shell: Shell, conda: Path) -> None:
    moved = conda.rename(conda.with_name("moved here"))
    before, active = shell.children(["show", *conda_start(shell, moved), "show"], START)
    assert plain(active) == {**expected(some_exports(moved), before, moved), "CONDA_PREFIX": str(moved)}
    assert persisted("conda", str(moved), read) == tuple(some_exports(moved))


def test_a_child_of_any_shell_can_deactivate(shell: Shell, conda: Path) -> None:
    Shell("dash", conda)
    shown = shell.folder / "shown-by-dash"
    script = shell.folder / "child.sh"
    script.write_text(f". '{conda}/etc/conda/deactivate.d/cudadoctor.sh'\nenv -0 > '{shown}'\n")
    (before,) = shell.children(["show", *conda_start(shell, conda), f"dash '{script}'"], START)
    assert _variables(shown.read_bytes()) == {**before, "CONDA_PREFIX": str(conda)}


@pytest.mark.parametrize("name", POSIX)
def test_strict_shells_go_on_and_keep_nothing_of_ours(name: str, conda: Path, tmp_path: Path) -> None:
    shell = Shell(name, tmp_path)
    start, end = conda_start(shell, conda), conda_end(shell, conda)
    odd = "setopt ksh_arrays glob_subst sh_word_split" if name == "zsh" else "set -f"
    kept = tmp_path / "kept"
    lines = ["show", "set -eu", odd, "set -- one two", "IFS=/", *start, f"set > '{kept}'", *end]
    lines += [f"set >> '{kept}'", '[ "$IFS" = / ] && [ "$1" = one ]', "show"]
    before, after = shell.children(lines, START)
    assert before == after
    assert "_cudadoctor" not in kept.read_text()


@pytest.mark.parametrize("name", POSIX)
def test_a_variable_that_was_not_set_is_no_error_to_a_strict_shell(
    name: str, conda: Path, tmp_path: Path
) -> None:
    shell = Shell(name, tmp_path)
    lines = ["set -eu", "show", *conda_start(shell, conda), *conda_end(shell, conda), "show"]
    before, after = shell.children(lines, {})
    assert before == after


ENTRIES = st.lists(st.sampled_from(["", "/a", "/a/", "/b", "/bad", "/bad//", "/", "/c d", "/é", "@/lib"]))


@pytest.mark.parametrize("name", ["dash", "bash", "zsh"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(old=ENTRIES, add=ENTRIES, remove=ENTRIES, name_of=st.sampled_from(["CPATH", "LD_LIBRARY_PATH"]))
def test_any_list_comes_to_the_outcome(
    name: str, tmp_path: Path, old: list[str], add: list[str], remove: list[str], name_of: str
) -> None:
    prefix = tmp_path / "any"
    shell = Shell(name, tmp_path)
    entries = [tuple(entry.replace("@", str(prefix)) for entry in some) for some in (old, add, remove)]
    export = Export(name_of, add=entries[1], remove=(*entries[2], ""))
    persist("conda", prefix, [export])
    lines = ["show", *conda_start(shell, prefix), "show", *conda_end(shell, prefix), "show"]
    before, active, after = shell.children(lines, {name_of: ":".join(entries[0])})
    assert plain(active) == {**expected([export], before, prefix), "CONDA_PREFIX": str(prefix)}
    assert after == before


# --- virtual environments -----------------------------------------------------------------------------------


def _venv(python: str) -> Callable[[Path], list[str]]:
    return lambda place: [python, "-m", "venv", "--without-pip", str(place)]


def _virtualenv(place: Path) -> list[str]:
    return [_program("virtualenv"), "--no-seed", "--no-download", "-q", str(place)]


def _uv(place: Path) -> list[str]:
    return [_program("uv"), "venv", "-q", "--offline", "--python", sys.executable, str(place)]


def _uv_relocatable(place: Path) -> list[str]:
    return [*_uv(place), "--relocatable"]


def _program(name: str) -> str:
    path = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if path is None:
        _do_without(f"{name} is not on PATH")
    return path


def _pythons() -> Iterator[tuple[str, str]]:
    """Yield the version and the path of other Pythons that pyenv has."""
    versions = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser() / "versions"
    for minor in range(8, 15):
        if found := sorted(versions.glob(f"3.{minor}.*/bin/python")):
            yield f"venv of 3.{minor}", str(found[-1])


MAKERS: dict[str, tuple[str, Callable[[Path], list[str]]]] = {
    "venv": ("venv", _venv(sys.executable)),
    "virtualenv": ("virtualenv", _virtualenv),
    "uv": ("uv", _uv),
    "relocatable uv": ("uv", _uv_relocatable),
    **{name: ("venv", _venv(python)) for name, python in _pythons()},
}


def knows(shell: Shell, prefix: Path, *before: str) -> None:
    """Skip the test where the script, as it was made, does not get through in this shell."""
    try:
        shell.children([*before, *venv_start(shell, prefix), "deactivate"], START)
    except AssertionError as error:
        pytest.skip(f"the script itself does not run here: {str(error).splitlines()[0][-200:]}")


@pytest.fixture(params=MAKERS)
def venv(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """Return the kind and the folder of a fresh virtual environment."""
    return make(request.param, tmp_path / "virtual env")


def make(name: str, place: Path) -> tuple[str, Path]:
    kind, argv = MAKERS[name]
    subprocess.run(argv(place), check=True, capture_output=True, timeout=120)
    return kind, place


def venv_start(shell: Shell, prefix: Path) -> list[str]:
    script = prefix / ("bin/activate" if shell.ending == "sh" else f"bin/activate.{shell.ending}")
    return ["set prompt = '% '"] * (shell.ending == "csh") + [shell.source(script)]


def named(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name in NAMES}


def test_every_virtual_environment_takes_exports_and_gives_them_back(
    shell: Shell, venv: tuple[str, Path]
) -> None:
    kind, prefix = venv
    knows(shell, prefix)
    exports = some_exports(prefix)
    persist(kind, prefix, exports)
    start = venv_start(shell, prefix)
    for again in ([], start):
        lines = ["show", *start, *again, "show", "deactivate", "show"]
        before, active, after = shell.children(lines, START)
        assert named(active) == expected(exports, named(before), prefix)
        assert after == before


def test_without_exports_the_scripts_are_as_they_were(venv: tuple[str, Path]) -> None:
    kind, prefix = venv
    scripts = {str(path): path.read_bytes() for path in (prefix / "bin").glob("*activate*")}
    persist(kind, prefix, some_exports(prefix))
    ours = ("activate", "activate.fish", "activate.csh", "deactivate.csh")
    assert {path for path in scripts if read(path) != scripts[path]} == {
        path for path in scripts if path.endswith(tuple(f"/{name}" for name in ours))
    }
    persist(kind, prefix, [Export("CUDA_HOME", "/other")])
    persist(kind, prefix, [])
    assert {path: read(path) for path in scripts} == scripts


@pytest.mark.parametrize("maker", ["venv", "virtualenv", "uv"])
def test_one_virtual_environment_after_another_leaves_nothing_of_the_first(
    shell: Shell, maker: str, tmp_path: Path
) -> None:
    kind, first = make(maker, tmp_path / "first")
    _, second = make(maker, tmp_path / "second")
    persist(kind, first, some_exports(first))
    own = [Export("CUDA_HOME", f"{second}/cuda"), Export("LIBRARY_PATH", add=(f"{second}/lib",))]
    persist(kind, second, own)
    lines = ["show", *venv_start(shell, first), *venv_start(shell, second), "show", "deactivate", "show"]
    before, active, after = shell.children(lines, START)
    assert named(active) == expected(own, named(before), second)
    assert after == before


@pytest.mark.parametrize("name", POSIX)
def test_a_virtual_environment_is_activated_by_a_strict_shell(
    name: str, venv: tuple[str, Path], tmp_path: Path
) -> None:
    shell = Shell(name, tmp_path)
    kind, prefix = venv
    knows(shell, prefix, "set -eu")
    persist(kind, prefix, some_exports(prefix))
    lines = ["set -eu", "show", *venv_start(shell, prefix), "show", "deactivate", "show"]
    before, active, after = shell.children(lines, {})
    assert named(active) == expected(some_exports(prefix), named(before), prefix)
    assert after == before


# --- commands to evaluate -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", VALUES)
def test_evaluated_commands_come_to_the_outcome(shell: Shell, value: str | None, tmp_path: Path) -> None:
    prefix = tmp_path / "my env"
    name = {"sh": "bash", "fish": "fish", "csh": "csh"}[shell.ending]
    text = tmp_path / "text"
    text.write_text(commands(some_exports(prefix), state(value, prefix), str(prefix), name))
    evaluate = {"sh": "eval \"$(cat '{}')\"", "fish": "cat '{}' | source", "csh": 'eval "`cat {}`"'}
    lines = ["show", evaluate[shell.ending].format(text), "show"]
    before, after = shell.children(lines, state(value, prefix))
    assert after == expected(some_exports(prefix), before, prefix)
