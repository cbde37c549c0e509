"""Real installers in real environments: what they bring, what they must not touch, and the way back.

The packages are wheels made here, and an editable project that builds itself: no network is used.
"""

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from cudadoctor.actions import Install, Version
from cudadoctor.facts import Target
from cudadoctor.host import RealHost
from cudadoctor.installers import running
from cudadoctor.installers.back import undo_argvs
from cudadoctor.installers.choice import prepare
from cudadoctor.installers.inventory import freeze
from cudadoctor.installers.running import InstallFailed, install, restore
from cudadoctor.probes import conda, packages
from cudadoctor.probes.target import Request, probe

from .conftest import _do_without
from .pip_prefix import copy_venv, site_packages

#: A build backend of one file, as PEP 517 and PEP 660 have it: no other one is needed to be editable.
BACKEND = """\
import os, zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(os.path.join(folder, "mine-0.1-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("mine.pth", os.getcwd())
        wheel.writestr("mine-0.1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: mine\\nVersion: 0.1\\n")
        tags = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr("mine-0.1.dist-info/WHEEL", tags)
        wheel.writestr("mine-0.1.dist-info/RECORD", "")
    return "mine-0.1-py3-none-any.whl"
"""
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def wheel(folder: Path, name: str, version: str, *requires: str) -> Path:
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
    metadata += [f"Requires-Dist: {line}\n" for line in requires]
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{module}.py", f"version = {version!r}\n")
        archive.writestr(f"{info}/METADATA", "".join(metadata))
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        rows = (f"{module}.py", f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD")
        archive.writestr(f"{info}/RECORD", "".join(f"{row},,\n" for row in rows))
    return path


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """Return a folder of wheels: tool needs dep 2, wants needs torch 2.10, addon any torch."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name, version, *requires in (
        ("dep", "1.0"),
        ("dep", "2.0"),
        ("tool", "1.0", "dep>=2", "extra"),
        ("extra", "1.0"),
        ("mine", "2.0"),
        ("torch", "2.9.0+cu128"),
        ("torch", "2.10.0"),
        ("wants", "1.0", "torch>=2.10"),
        ("addon", "1.0", "torch"),
    ):
        wheel(folder, name, version, *requires)
    return folder


class Environment:
    """A virtual environment with an installer of its own, and nothing but our wheels to install."""

    def __init__(self, prefix: Path, wheels: Path, uv: str) -> None:
        self.prefix, self.uv = prefix, uv
        (prefix.parent / "uv.toml").write_text(f'no-index = true\nfind-links = ["{wheels}"]\n')
        kept = {name: os.environ[name] for name in ("HOME", "TMPDIR", "LANG") if name in os.environ}
        self.environ = {
            **kept,
            "PATH": f"{os.path.dirname(uv)}:/usr/bin:/bin" if uv else "/usr/bin:/bin",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(wheels),
            "PIP_CONFIG_FILE": os.devnull,
            "UV_CONFIG_FILE": str(prefix.parent / "uv.toml"),
            "UV_CACHE_DIR": str(prefix.parent / "uv-cache"),
            "PIP_CACHE_DIR": str(prefix.parent / "pip-cache"),
        }

    @property
    def host(self) -> RealHost:
        return RealHost(self.environ)

    @property
    def target(self) -> Target:
        return probe(self.host, Request(prefix=str(self.prefix)))

    def has(self, *arguments: str) -> None:
        """Install these in the way that a user would."""
        python = str(self.prefix / "bin/python")
        argv = (
            [self.uv, "pip", "install", "--python", python] if self.uv else [python, "-m", "pip", "install"]
        )
        subprocess.run([*argv, "-q", *arguments], env=self.environ, check=True, cwd="/")

    def plan(self, *requirements: str) -> Install:
        target, host = self.target, self.host
        seen, records = packages.probe(host, target), conda.probe(host, target)
        step = prepare(Install("pip", requirements), target, seen, records, host)
        assert isinstance(step, Install), step
        assert step.tool == ("uv" if self.uv else "pip")
        return step

    def freeze(self) -> dict[str, Version]:
        return {version.name: version for version in freeze(self.target, self.host)}


@pytest.fixture(scope="session")
def with_pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a virtual environment with pip in it, to be copied."""
    prefix = tmp_path_factory.mktemp("with-pip") / "env"
    made = subprocess.run([sys.executable, "-m", "venv", str(prefix)], capture_output=True, text=True)
    if made.returncode:
        _do_without(f"no virtual environment with pip can be made: {made.stdout.strip()}")
    return prefix


@pytest.fixture(params=["pip", "uv"])
def environment(request: pytest.FixtureRequest, tmp_path: Path, wheels: Path) -> Environment:
    prefix = tmp_path / "env"
    if request.param == "pip":
        return Environment(copy_venv(request.getfixturevalue("with_pip"), prefix), wheels, "")
    if (uv := shutil.which("uv")) is None:
        _do_without("uv is not on PATH")
    argv = [uv, "venv", "--offline", "--no-config", "-q", "-p", sys.executable, str(prefix)]
    subprocess.run(argv, check=True)
    return Environment(prefix, wheels, uv)


def test_everything_comes_back_an_upgraded_and_an_editable_one_too(
    environment: Environment, tmp_path: Path
) -> None:
    project = tmp_path / "my project"
    project.mkdir()
    (project / "backend.py").write_text(BACKEND)
    (project / "pyproject.toml").write_text(PROJECT)
    environment.has("dep==1.0", "-e", str(project))
    before = environment.freeze()
    assert before["mine"] == Version("mine", "0.1", source=str(project))
    step = environment.plan("tool", "mine==2.0")
    assert set(step.before) == set(before.values())
    said: list[str] = []
    install(step, environment.host, said.append)
    now = environment.freeze()
    assert set(said) == {"installing tool mine==2.0"}
    assert [now[name].version for name in ("tool", "extra", "dep", "mine")] == ["1.0", "1.0", "2.0", "2.0"]
    restore(step, environment.target, environment.host)
    assert environment.freeze() == before
    assert undo_argvs(step, tuple(environment.freeze().values())) == ()
    restore(step, environment.target, environment.host)
    assert environment.freeze() == before


def test_what_was_removed_or_comes_from_elsewhere_now_comes_back(
    environment: Environment, wheels: Path
) -> None:
    file = str(wheels / "extra-1.0-py3-none-any.whl")
    environment.has("dep==1.0", file)
    before, step = environment.freeze(), environment.plan("tool")
    assert before["extra"].source == f"file://{file}"
    environment.has("--force-reinstall" if not environment.uv else "--reinstall", "extra==1.0")
    assert environment.freeze()["extra"].source == ""
    quiet = [] if environment.uv else ["-y"]
    tool = [environment.uv, "pip", "uninstall", "--python", str(environment.prefix / "bin/python")]
    argv = tool if environment.uv else [str(environment.prefix / "bin/python"), "-m", "pip", "uninstall"]
    subprocess.run([*argv, *quiet, "dep"], env=environment.environ, check=True, capture_output=True)
    restore(step, environment.target, environment.host)
    assert environment.freeze() == before


@pytest.mark.parametrize("direct", [False, True], ids=["from an index", "from a file"])
def test_torch_stays_as_it_is(environment: Environment, wheels: Path, direct: bool) -> None:
    environment.has(str(wheels / "torch-2.9.0+cu128-py3-none-any.whl") if direct else "torch==2.9.0+cu128")
    before = environment.freeze()
    with pytest.raises(InstallFailed, match="torch") as caught:
        install(environment.plan("wants"), environment.host)
    assert "\n" not in str(caught.value)
    assert environment.freeze() == before
    step = environment.plan("addon")
    install(step, environment.host)
    assert environment.freeze() == {**before, "addon": Version("addon", "1.0")}


def test_torch_moves_where_that_is_what_is_asked_for(environment: Environment) -> None:
    environment.has("torch==2.9.0+cu128")
    before, step = environment.freeze(), environment.plan("torch==2.10.0")
    install(step, environment.host)
    assert environment.freeze()["torch"].version == "2.10.0"
    restore(step, environment.target, environment.host)
    assert environment.freeze() == before


def test_what_torch_lacks_is_not_brought_along(environment: Environment, wheels: Path) -> None:
    lacking = wheel(wheels, "torch", "2.8.0", "not-to-be-had", "dep<2")
    environment.has("--no-deps", str(lacking))
    install(environment.plan("tool"), environment.host)
    assert {"tool", "dep"} <= set(environment.freeze())


def test_what_conda_brought_is_not_pip_s_to_replace(environment: Environment) -> None:
    environment.has("dep==1.0")
    step_target = environment.target
    folder = environment.prefix / "conda-meta"
    folder.mkdir()
    file = f"{site_packages(environment.prefix).relative_to(environment.prefix)}/dep-1.0.dist-info/METADATA"
    (folder / "dep-1.0-h0_0.json").write_text(
        f'{{"name": "dep", "version": "1.0", "build": "h0_0", "files": ["{file}"]}}'
    )
    host = environment.host
    step = prepare(
        Install("pip", ("tool",)),
        step_target,
        packages.probe(host, step_target),
        conda.probe(host, step_target),
        host,
    )
    assert isinstance(step, Install)
    with pytest.raises(InstallFailed, match="dep"):
        install(step, host)
    assert {v.version for v in freeze(step_target, host) if v.name == "dep"} == {"1.0"}


def test_the_user_s_settings_do_not_send_packages_elsewhere(environment: Environment, tmp_path: Path) -> None:
    broken = tmp_path / "broken" / "pip"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise SystemExit('this is not pip')\n")
    environment.environ |= {
        "PYTHONPATH": str(broken.parent),
        "PYTHONHOME": str(tmp_path),
        "PIP_TARGET": str(tmp_path / "target"),
        "PIP_USER": "1",
        "PIP_DRY_RUN": "1",
        "UV_SYSTEM_PYTHON": "1",
        "UV_PYTHON": "/nowhere/python",
        "FORCE_COLOR": "1",
        "TMPDIR": str(broken.parent),
    }
    install(environment.plan("extra"), environment.host)
    assert "extra" in environment.freeze()
    with pytest.raises(InstallFailed, match="no-such-thing") as caught:
        install(environment.plan("no-such-thing"), environment.host)
    assert str(caught.value).isprintable()


def test_a_limit_that_the_user_has_set_still_holds(environment: Environment, tmp_path: Path) -> None:
    limits = tmp_path / "limits.txt"
    limits.write_text("dep<2\n")
    environment.environ |= {"PIP_CONSTRAINT": str(limits), "UV_CONSTRAINT": str(limits)}
    with pytest.raises(InstallFailed):
        install(environment.plan("tool"), environment.host)
    install(environment.plan("dep"), environment.host)
    assert environment.freeze()["dep"].version == "1.0"


# --- conda --------------------------------------------------------------------------------------------------


def test_what_a_real_conda_environment_holds_is_written_down(conda_cudart12: Path) -> None:
    host = RealHost()
    found = freeze(probe(host, Request(prefix=str(conda_cudart12))), host)
    records = {version.name: version for version in found if version.build}
    names = {file.name for file in (conda_cudart12 / "conda-meta").glob("*.json")}
    assert {f"{v.name}-{v.version}-{v.build}.json" for v in records.values()} == names
    assert records["cuda-cudart-dev"].source.startswith("file:///")


def client(folder: Path, script: str) -> Path:
    """Return a program that stands in for conda: no conda is to be had from an index of Python packages."""
    path = folder / "conda"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def conda_step(path: Path, packages: Sequence[str], *before: Version) -> Install:
    argv = (str(path), "install", "-p", "/c", "-y", *packages)
    return Install("conda", tuple(packages), argv, before)


def test_conda_is_started_with_the_stack_pinned_and_nothing_to_read(tmp_path: Path) -> None:
    told = '"$@" "$CONDA_PINNED_PACKAGES" "$MAMBA_PINNED_PACKAGES"'
    path = client(tmp_path, f"printf '%s\\n' {told} >{tmp_path}/log\nread x")
    torch = Version("pytorch", "2.9.0", "cuda128_0", "conda-forge")
    step = conda_step(path, ["ninja"], torch, Version("numpy", "2.0", "h0"), Version("torch", "2.9.0"))
    with pytest.raises(InstallFailed, match="ended with 1"):  # what `read` finds is the end
        install(step, RealHost({**os.environ, "CONDA_PINNED_PACKAGES": "python=3.12"}))
    pin = "pytorch=2.9.0=cuda128_0"
    assert (tmp_path / "log").read_text().splitlines() == [*step.argv[1:], f"python=3.12&{pin}", pin]


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("PackagesNotFoundError: no:\n\n  - ninja\n\nTo search ...", "PackagesNotFoundError: no: - ninja"),
        ("error    libmamba Could not solve\ncritical libmamba Aborting", "critical libmamba Aborting"),
        ("Collecting\rcleaning up", "cleaning up"),
        ("", "conda ended with 3"),
    ],
)  # fmt: skip
def test_what_conda_said_last_is_told(tmp_path: Path, output: str, says: str) -> None:
    (tmp_path / "said").write_text(output)
    with pytest.raises(InstallFailed) as caught:
        install(conda_step(client(tmp_path, f"cat {tmp_path}/said; exit 3"), ["ninja"]), RealHost())
    assert str(caught.value).endswith(says)


def test_an_installer_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    with pytest.raises(InstallFailed, match="No such file"):
        install(conda_step(tmp_path / "gone", ["ninja"]), RealHost())


def test_an_installer_that_takes_too_long_is_stopped_and_may_tidy_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "TIME_LIMIT_S", 1.0)
    path = client(tmp_path, f"trap 'echo tidied >{tmp_path}/log; exit 1' INT; while :; do sleep 0.1; done")
    with pytest.raises(InstallFailed, match="took more than"):
        install(conda_step(path, ["ninja"]), RealHost())
    assert (tmp_path / "log").read_text() == "tidied\n"


def test_an_installer_hears_the_signal_where_we_are_deaf_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a script's background job
    try:
        test_an_installer_that_takes_too_long_is_stopped_and_may_tidy_up(tmp_path, monkeypatch)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_child_that_is_left_behind_is_not_waited_for(tmp_path: Path) -> None:
    install(conda_step(client(tmp_path, "sleep 60 & echo done"), ["ninja"]), RealHost())


def test_ctrl_c_ends_the_installer_too(tmp_path: Path) -> None:
    path = client(tmp_path, f"trap 'echo tidied >{tmp_path}/log; exit 1' INT; while :; do sleep 0.1; done")

    def interrupt(_: str) -> None:
        if (tmp_path / "started").exists():
            raise KeyboardInterrupt
        (tmp_path / "started").touch()

    with pytest.raises(KeyboardInterrupt):
        install(conda_step(path, ["ninja"]), RealHost(), interrupt)
    assert (tmp_path / "log").read_text() == "tidied\n"
