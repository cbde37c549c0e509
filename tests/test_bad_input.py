"""Whatever lies in an environment is an outcome with its reason: never a traceback, never a wait."""

import os
import pickle
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cudadoctor.engine import collect
from cudadoctor.facts import BuildTools, Conda, Environ, Facts, Packages, Target, Toolkits, Unknown
from cudadoctor.host import RealHost
from cudadoctor.outcomes import Failed, Passed
from cudadoctor.probes import conda, environ, machine, packages, target, toolkits, tools
from cudadoctor.probes.target import NoTarget, Request
from cudadoctor.registry import load
from cudadoctor.report import decode, encode

T = TypeVar("T")
SECTIONS = ("machine", "target", "environ", "packages", "conda", "tools", "toolkits")
PATIENCE_S = 5.0
assert conda and environ and machine and packages and target and toolkits and tools, "loaded before any fork"


@pytest.fixture(autouse=True)
def never_waits() -> Iterator[None]:
    """Fail where a test takes longer than a reader has patience: something was waited for."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < PATIENCE_S


def look(prefix: Path | str = "", variables: Mapping[str, str] | None = None) -> Facts:
    """Probe an environment; whatever is in it, the facts can be written and read again."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nowhere", **(variables or {})}
    facts = collect(RealHost(environment), SECTIONS, Request(str(prefix)))
    written = decode(encode(facts))
    assert decode(encode(written)) == written
    for section in SECTIONS:
        if isinstance(found := getattr(facts, section), Unknown):
            assert not re.search(r"Error|Exception|Traceback", found.reason), found.reason
    return facts


def mistake(prefix: Path | str) -> str:
    with pytest.raises(NoTarget) as caught:
        look(prefix)
    line = str(caught.value)
    assert line.isprintable() and len(line) > 20
    return line


# --- the user's mistakes ------------------------------------------------------------------------------------


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Return a folder of things that are no environments."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("text")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "dangling").symlink_to("gone")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "to-empty").symlink_to("empty")
    (tmp_path / "decoy/conda-meta").parent.mkdir()
    (tmp_path / "decoy/conda-meta").write_text("a file where a folder is expected")
    (tmp_path / "decoy/bin/python3").mkdir(parents=True)
    os.mkfifo(tmp_path / "decoy/pyvenv.cfg")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing", "no such folder"),
        ("empty", "no Python environment"),
        ("to-empty", "no Python environment"),
        ("decoy", "no Python environment"),
        ("file", "not a folder"),
        ("fifo", "not a folder"),
        ("device", "not a folder"),
        ("file/bin", "not a folder"),
        ("dangling", "no such folder"),
        ("loop", "symbolic links"),
        ("loop/x", "symbolic links"),
        ("x" * 5000, "name too long"),
        ("\x1b[2J\x1b]0;owned\x07\r\n", "no such folder"),
        ("caf\udce9", "no such folder"),
        ("a\0b", "not a path"),
    ],
)
def test_a_prefix_that_is_none_is_one_clear_line(name: str, says: str, odd: Path) -> None:
    assert says in mistake(f"{odd}/{name}")


def test_a_socket_is_no_prefix(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket"))
        assert "not a folder" in mistake(tmp_path / "socket")


@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX"])
@pytest.mark.parametrize(
    "name", ["missing", "empty", "file", "fifo", "device", "loop", "decoy", "caf\udce9\x1b[2J"]
)
def test_a_variable_that_names_no_environment_is_passed_over(variable: str, name: str, odd: Path) -> None:
    found = look(variables={variable: f"{odd}/{name}", "PATH": "/nowhere:/usr/bin:/bin"}).target
    if isinstance(found, Target):
        assert found.chosen_by == "python3 on PATH" and variable in found.notes[0]


@pytest.mark.parametrize("name", ["fifo", "device", "file", "empty", "loop", "dangling", "missing"])
def test_an_interpreter_that_is_none_is_one_clear_line(name: str, odd: Path) -> None:
    with pytest.raises(NoTarget, match="not an executable file"):
        collect(RealHost({"PATH": ""}), SECTIONS, Request(python=f"{odd}/{name}"))


# --- the patient's ------------------------------------------------------------------------------------------


def a_venv(prefix: Path) -> Path:
    site = prefix / "lib/python3.12/site-packages"
    for folder in ("torch-2.9.0.dist-info", "torch", "nvidia/cu13/bin", "nvidia/cu13/include/crt"):
        (site / folder).mkdir(parents=True)
    (prefix / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.12.1\n")
    (site / "torch-2.9.0.dist-info/METADATA").write_text("Name: torch\nVersion: 2.9.0\n")
    (site / "torch/version.py").write_text("__version__ = '2.9.0+cu130'\ncuda = '13.0'\n")
    (site / "nvidia/cu13/include/cuda_runtime_api.h").write_text("#define CUDART_VERSION 13000\n")
    (site / "nvidia/cu13/include/crt/host_config.h").write_text("#if __GNUC__ > 15\n")
    return prefix


def a_conda(prefix: Path) -> Path:
    for folder in ("conda-meta", "etc/conda/activate.d", "bin"):
        (prefix / folder).mkdir(parents=True)
    (prefix / "conda-meta/cuda-version-12.8-0.json").write_text('{"name": "cuda-version", "version": "12.8"}')
    (prefix / "conda-meta/state").write_text('{"env_vars": {"CUDA_HOME": "/x"}}')
    (prefix / "etc/conda/activate.d/x.sh").write_text("export CC=gcc\n")
    return prefix


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def terminal(path: Path) -> None:
    path.symlink_to("/dev/tty")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def dangling(path: Path) -> None:
    path.symlink_to("gone/for/good")


def folder(path: Path) -> None:
    path.mkdir()


def binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 64)


def empty(path: Path) -> None:
    path.touch()


def giant(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def endless(path: Path) -> None:
    path.write_bytes(b"[" * (3 << 20))


def proc(path: Path) -> None:
    path.symlink_to("/proc/self/mem")


EVILS = (fifo, device, terminal, loop, dangling, folder, binary, empty, giant, endless, proc)
SITE = "lib/python3.12/site-packages"
VENV_FILES = (
    "pyvenv.cfg",
    "bin",
    "lib",
    SITE,
    f"{SITE}/torch-2.9.0.dist-info",
    f"{SITE}/torch-2.9.0.dist-info/METADATA",
    f"{SITE}/torch-2.9.0.dist-info/INSTALLER",
    f"{SITE}/torch-3.0.dist-info",
    f"{SITE}/torch.egg-link",
    f"{SITE}/torch-1.0.egg-info",
    f"{SITE}/vllm-1.0-py3.12.egg",
    f"{SITE}/__editable__.torch.pth",
    f"{SITE}/torch",
    f"{SITE}/torch/version.py",
    f"{SITE}/nvidia/cu13",
    f"{SITE}/nvidia/cu13/bin/nvcc",
    f"{SITE}/nvidia/cu13/version.json",
    f"{SITE}/nvidia/cu13/include/cuda_runtime_api.h",
    f"{SITE}/nvidia/cu13/include/crt/host_config.h",
    "bin/python3",
    "bin/nvcc",
    "bin/ninja",
)
CONDA_FILES = (
    "conda-meta",
    "conda-meta/cuda-version-12.8-0.json",
    "conda-meta/python-3.12.1-0.json",
    "conda-meta/state",
    "conda-meta/pixi",
    "etc/conda/activate.d",
    "etc/conda/activate.d/x.sh",
    "etc/conda/env_vars.d",
    "bin/python3",
    "bin/nvcc",
    "targets",
)


def put(evil: Callable[[Path], None], path: Path) -> None:
    """Put something evil where a file or folder is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
    evil(path)


@pytest.mark.parametrize("evil", EVILS)
@pytest.mark.parametrize("file", VENV_FILES)
def test_anything_may_stand_where_a_virtual_environment_s_file_is_expected(
    evil: Callable[[Path], None], file: str, tmp_path: Path
) -> None:
    prefix = a_venv(tmp_path / "env")
    put(evil, prefix / file)
    variables = {
        "VIRTUAL_ENV": str(prefix),
        "PATH": f"{prefix}/bin",
        "CUDA_HOME": f"{prefix}/{SITE}/nvidia/cu13",
    }
    facts = look("" if file == "pyvenv.cfg" else prefix, {**variables, "PATH": f"{prefix}/bin:/usr/bin"})
    assert not isinstance(facts.machine, Unknown)
    if isinstance(facts.packages, Packages) and file.endswith("METADATA") and evil not in (folder,):
        (torch,) = [d for d in facts.packages.distributions if d.name == "torch"]
        assert torch.problem and facts.packages.torch is not None


@pytest.mark.parametrize("evil", EVILS)
@pytest.mark.parametrize("file", CONDA_FILES)
def test_anything_may_stand_where_a_conda_environment_s_file_is_expected(
    evil: Callable[[Path], None], file: str, tmp_path: Path
) -> None:
    prefix = a_conda(tmp_path / "env")
    put(evil, prefix / file)
    variables = {"CONDA_PREFIX": "/elsewhere", "PATH": f"{prefix}/bin:/usr/bin"}
    if file == "conda-meta":
        (prefix / "pyvenv.cfg").touch()
    facts = look(prefix, variables)
    assert isinstance(facts.environ, Environ) and isinstance(facts.toolkits, Toolkits)
    if isinstance(facts.conda, Conda) and file.endswith("cuda-version-12.8-0.json"):
        (record,) = facts.conda.records
        assert record.problem and (record.name, record.version) == ("cuda-version", "12.8")


@pytest.mark.parametrize("evil", EVILS)
def test_anything_may_stand_where_a_variable_points(evil: Callable[[Path], None], tmp_path: Path) -> None:
    evil(tmp_path / "evil")
    there = f"{tmp_path}/evil"
    names = (
        "CUDA_HOME",
        "CUDA_PATH",
        "CUDAToolkit_ROOT",
        "CUDACXX",
        "CPATH",
        "PYTHONPATH",
        "HOME",
        "PYTHONUSERBASE",
    )
    facts = look(a_venv(tmp_path / "env"), {**dict.fromkeys(names, there), "PATH": f"{there}:/usr/bin"})
    assert isinstance(facts.toolkits, Toolkits)


@pytest.mark.parametrize(
    "text", ["\udcff\udcfe", "\x1b[2J\x1b]0;owned\x07", "a\nb\r\n", "x" * 100_000, ":" * 5000, "'\"`$("]
)
def test_variables_may_hold_anything(text: str, tmp_path: Path) -> None:
    names = (
        "CUDA_HOME",
        "CPATH",
        "LDFLAGS",
        "LIBRARY_PATH",
        "NVCC_APPEND_FLAGS",
        "LOADEDMODULES",
        "container",
    )
    facts = look(a_conda(tmp_path / "env"), {**dict.fromkeys(names, text), "PATH": f"{text}:/usr/bin"})
    assert isinstance(facts.environ, Environ) and isinstance(facts.toolkits, Toolkits)


def test_an_environment_may_have_a_name_that_is_no_utf_8(tmp_path: Path) -> None:
    prefix = a_venv(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\x1b[31m")))
    facts = look(prefix)
    assert isinstance(facts.packages, Packages) and facts.packages.torch is not None
    assert isinstance(facts.toolkits, Toolkits) and facts.toolkits.toolkits[0].layout == "pip-cu13"


def test_names_of_distributions_may_be_no_utf_8(tmp_path: Path) -> None:
    prefix = a_venv(tmp_path / "env")
    os.mkdir(os.fsencode(prefix / SITE) + b"/nvidia_\xff\x1b[2J-1.0.dist-info")
    assert isinstance(look(prefix).packages, Packages)


def test_a_path_of_ten_thousand_entries_costs_little(tmp_path: Path) -> None:
    path = ":".join(f"{tmp_path}/{number}" for number in range(10_000))
    started = time.monotonic()
    facts = look(a_venv(tmp_path / "env"), {"PATH": f"{path}:/usr/bin", "VIRTUAL_ENV": "/gone"})
    assert time.monotonic() - started < 2
    assert (
        isinstance(facts.environ, Environ) and facts.environ.path == (f"{tmp_path}/env/bin", "/usr/bin")[1:]
    )


def test_links_may_go_in_circles_everywhere(tmp_path: Path) -> None:
    prefix = a_venv(tmp_path / "env")
    (prefix / "lib64").symlink_to("lib")
    (prefix / SITE / "nvidia/cu13/targets").symlink_to(".")
    (prefix / SITE / "nvidia/cu13/lib").symlink_to("../cu13")
    (prefix / "self").symlink_to(".")
    facts = look(f"{prefix}/self/self")
    assert isinstance(facts.target, Target) and facts.target.site_packages == (f"{prefix}/self/self/{SITE}",)
    assert isinstance(facts.toolkits, Toolkits) and facts.toolkits.toolkits


# --- permissions --------------------------------------------------------------------------------------------


def unprivileged(function: Callable[[], T]) -> T:
    """Call a function as a user who may not read everything, and return what it returns or raise."""
    if os.geteuid() != 0:
        return function()
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        result: Any = AssertionError("the child ended early")
        try:
            os.chdir("/")
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            result = function()
        except BaseException as error:
            result = error
        finally:
            with open(write, "wb") as pipe:
                pickle.dump(result, pipe)
            os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        told = pickle.load(pipe)
    os.waitpid(child, 0)
    if isinstance(told, BaseException):
        raise told
    return told  # type: ignore[no-any-return]


@pytest.fixture
def shared() -> Iterator[Path]:
    """Return a folder that another user may enter, which pytest's own folders are not."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        place = Path(made)
        place.chmod(0o755)
        yield place
        for path in [place, *place.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755)


def denied(prefix: Path, hidden: Path, mode: int = 0) -> Facts:
    hidden.chmod(mode)
    environment = {"PATH": f"{prefix}/bin:/usr/bin:/bin", "HOME": "/nowhere"}
    return decode(
        unprivileged(lambda: encode(collect(RealHost(environment), SECTIONS, Request(str(prefix)))))
    )


def test_a_prefix_that_may_not_be_read_is_one_clear_line(shared: Path) -> None:
    for prefix in (shared / "one", shared / "closed/two"):
        prefix.mkdir(parents=True)
        (prefix if prefix.name == "one" else prefix.parent).chmod(0)
        with pytest.raises(NoTarget, match="Permission denied"):
            unprivileged(lambda prefix=prefix: target.probe(RealHost({}), Request(str(prefix))))  # type: ignore[misc]


def test_a_prefix_that_may_be_entered_but_not_listed_is_a_target(shared: Path) -> None:
    prefix = a_venv(shared / "env")
    facts = denied(prefix, prefix, 0o711)
    assert isinstance(facts.packages, Packages) and facts.packages.torch is not None


def test_settings_that_may_not_be_read_are_noted(shared: Path) -> None:
    prefix = a_venv(shared / "env")
    found = denied(prefix, prefix / "pyvenv.cfg").target
    assert isinstance(found, Target) and found.kind == "venv"
    assert "cannot be read" in found.notes[0] and found.site_packages == (f"{prefix}/{SITE}",)


def test_site_packages_that_may_not_be_read_are_told(shared: Path) -> None:
    prefix = a_venv(shared / "env")
    for hidden, mode in ((SITE, 0), (SITE, 0o711), ("lib", 0), ("lib/python3.12", 0)):
        folder = prefix / hidden
        facts = denied(prefix, folder, mode)
        assert facts.packages == Unknown(f"{folder}: Permission denied")
        folder.chmod(0o755)
        for each in [check for check in load().checks.values() if "packages" in check.needs]:
            assert not isinstance(each.run(facts), Passed | Failed), each.name


def test_further_folders_that_may_not_be_read_are_told(shared: Path) -> None:
    prefix, more = a_venv(shared / "env"), shared / "more"
    more.mkdir(0o711)
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nowhere", "PYTHONPATH": str(more)}
    found = unprivileged(
        lambda: encode(collect(RealHost(environment), ["packages", "target"], Request(str(prefix))))
    )
    packages = decode(found).packages
    assert isinstance(packages, Packages) and packages.torch is not None
    assert packages.unreadable == (f"{more}: Permission denied",)


def test_an_interpreter_behind_a_closed_folder_is_not_called_gone(shared: Path) -> None:
    base, prefix = shared / "root", a_venv(shared / "env")
    (base / "bin").mkdir(parents=True)
    (base / "include").mkdir()
    python = base / "bin/python3.12"
    python.write_text("#!/bin/true\n")
    python.chmod(0o755)
    (prefix / "pyvenv.cfg").write_text(f"home = {base}/bin\nversion = 3.12.1\n")
    for name in ("python", "python3"):
        (prefix / "bin" / name).unlink(missing_ok=True)
    (prefix / "bin").mkdir(exist_ok=True)
    (prefix / "bin/python3").symlink_to(python)
    facts = denied(prefix, base, 0o700 if os.geteuid() == 0 else 0)
    assert isinstance(facts.target, Target) and isinstance(facts.tools, BuildTools)
    why = f"leads to no program that can be seen: this user may not enter {base}"
    assert facts.target.notes[0].endswith(why)
    assert facts.tools.python_header_barred == str(base)
    base.chmod(0o755)
    assert denied(prefix, base, 0o755).tools.python_header_barred == ""  # type: ignore[union-attr]
    with pytest.raises(NoTarget, match="may not enter"):
        base.chmod(0o700 if os.geteuid() == 0 else 0)
        unprivileged(lambda: target.probe(RealHost({}), Request("", str(python))))


def test_metadata_that_may_not_be_read_is_a_fact(shared: Path) -> None:
    prefix = a_venv(shared / "env")
    found = denied(prefix, prefix / SITE / "torch-2.9.0.dist-info/METADATA").packages
    assert isinstance(found, Packages) and found.torch is not None and found.torch.cuda == "13.0"
    assert found.distributions[0].problem == "torch-2.9.0.dist-info: Permission denied"


def test_conda_meta_that_may_not_be_read_is_unknown_with_its_reason(shared: Path) -> None:
    prefix = a_conda(shared / "env")
    facts = denied(prefix, prefix / "conda-meta")
    assert facts.conda == Unknown(f"{prefix}/conda-meta: Permission denied")
    assert facts.toolkits == Unknown(f"conda: {prefix}/conda-meta: Permission denied")
    assert isinstance(facts.environ, Environ)


def test_a_record_that_may_not_be_read_is_a_fact(shared: Path) -> None:
    prefix = a_conda(shared / "env")
    found = denied(prefix, prefix / "conda-meta/cuda-version-12.8-0.json").conda
    assert isinstance(found, Conda) and found.records[0].problem == "Permission denied"


def test_an_nvcc_that_may_be_run_but_not_read_is_a_program(shared: Path) -> None:
    prefix = a_conda(shared / "env")
    shutil.copy("/bin/true", prefix / "bin/nvcc")
    found = denied(prefix, prefix / "bin/nvcc", 0o711).toolkits
    assert isinstance(found, Toolkits) and found.nvcc_on_path is not None
    assert (found.nvcc_on_path.kind, found.nvcc_on_path.path) == ("binary", f"{prefix}/bin/nvcc")


def test_an_nvcc_that_may_not_be_run_is_none(shared: Path) -> None:
    prefix = a_conda(shared / "env")
    shutil.copy("/bin/true", prefix / "bin/nvcc")
    found = denied(prefix, prefix / "bin/nvcc", 0o644).toolkits
    assert isinstance(found, Toolkits)
    assert found.nvcc_on_path is None or not found.nvcc_on_path.path.startswith(str(prefix))
