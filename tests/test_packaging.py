"""The wheel holds what the tree holds, and works without it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, as pip does it."""
    pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed")
    place = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(place),
    ]
    subprocess.run([*command, str(ROOT)], check=True)
    (built,) = place.glob("*.whl")
    return built


def names(wheel: Path, folder: str) -> set[str]:
    start = f"cudadoctor/{folder}/"
    return {name.removeprefix(start) for name in zipfile.ZipFile(wheel).namelist() if name.startswith(start)}


@pytest.mark.parametrize("folder", ["checks", "fixes"])
def test_the_wheel_holds_every_check_and_fix(wheel: Path, folder: str) -> None:
    there = {str(file.relative_to(ROOT / folder)) for file in (ROOT / folder).rglob("*.py")}
    assert names(wheel, folder) == there


def test_the_wheel_brings_no_tests_and_no_top_level_but_one(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {"cudadoctor", "cudadoctor-0.1.0.data", "cudadoctor-0.1.0.dist-info"}


def test_the_wheel_brings_the_manual_page_to_where_man_looks(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        data = [name for name in files.namelist() if ".data/" in name]
        assert data == ["cudadoctor-0.1.0.data/data/share/man/man1/cudadoctor.1"]
        assert files.read(data[0]) == (ROOT / "docs/cudadoctor.1").read_bytes()


def test_the_wheel_works_by_itself(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(place),
    ]
    subprocess.run([*install, str(wheel)], check=True)
    code = "import cudadoctor, sys; print(cudadoctor.__file__); "
    code += "from cudadoctor.cli import main; sys.exit(main(['list']))"
    environ = {**os.environ, "PYTHONPATH": str(place)}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environ, cwd=tmp_path
    )
    assert str(place) in ran.stdout.splitlines()[0]
    listed = {line.partition(" ")[0] for line in ran.stdout.splitlines()}
    for folder in ("checks", "fixes"):
        names = {f.stem.replace("_", "-") for f in (ROOT / folder).rglob("*.py") if f.name[0] != "_"}
        assert names <= listed
