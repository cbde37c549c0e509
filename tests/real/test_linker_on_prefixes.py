"""On real environments the model says of `-lcudart` and `-lcuda` what ld says, on each consumer's line."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cudadoctor.facts import Environ, FlashInfer, Machine, Packages, Selection, Toolkits, TorchBuild, Variable
from cudadoctor.host import RealHost
from cudadoctor.probes import compilers, libraries
from cudadoctor.simulate.lines import LinkLine, Scene, link_lines
from cudadoctor.simulate.linker import Linker
from tests.simulate.test_linker_against_ld import ask_ld, assert_same, clean_environ

from .conda_prefix import TARGET
from .pip_prefix import site_packages

LDFLAGS = ("-shared", "-L$cuda_home/lib64", "-L$cuda_home/lib64/stubs", "-lcudart", "-lcuda")
MACHINE = Machine("x86_64", "Linux", "", "", 1, 1, 1, None, None)
LIBRARY_PATHS = (
    None,
    "",
    "{home}/lib",
    "{home}/lib:{home}/lib/stubs",
    "{home}/lib:{home}/lib64:{home}/" + TARGET + "/lib",
    "{home}/" + TARGET + "/lib/stubs:",
    "{home}/lib64/../lib:{home}/lib64/stubs/../../lib/stubs",
)


class Consumers:
    """The lines of FlashInfer and torch with CUDA_HOME at one place, and the machine they are linked on."""

    def __init__(self, home: Path, library_path: str | None) -> None:
        variables = {
            name: Variable(value, "environment") for name, value in clean_environ(library_path).items()
        }
        self.environ = Environ(variables, "these", tuple(os.environ["PATH"].split(":")), os.getcwd())
        self.library_path = library_path
        torch = TorchBuild("2.9.0", f"{home}/lib/python3/torch", "12.8")
        self.packages = Packages((), torch, FlashInfer("0.5.3", LDFLAGS, "cpp_ext.py"))
        chosen = tuple(Selection(who, str(home), "CUDA_HOME", True, True) for who in ("flashinfer", "torch"))
        self.toolkits = Toolkits((), chosen, {})
        self.compilers = compilers.probe(RealHost(clean_environ(None)), self.environ, self.packages)
        self.libraries = libraries.probe(
            RealHost(), self.environ, self.packages, self.toolkits, self.compilers, MACHINE
        )

    def lines(self) -> Iterator[LinkLine]:
        found = list(
            link_lines(Scene(self.toolkits, self.compilers, self.libraries, self.environ, self.packages))
        )
        assert {line.consumer for line in found} == {"flashinfer", "torch"}
        yield from found


@pytest.fixture
def object_file(tmp_path: Path, gxx: str) -> Path:
    file = tmp_path / "own.o"
    command = [gxx, "-fPIC", "-x", "c++", "-c", "-o", str(file), "-"]
    subprocess.run(command, input="int own() { return 2; }\n", text=True, check=True)
    return file


def assert_the_model_is_right(home: Path, object_file: Path) -> list[str]:
    """Compare over both lines, both libraries and every LIBRARY_PATH; return how FlashInfer's links ended."""
    ends: list[str] = []
    for library_path in LIBRARY_PATHS:
        value = library_path and library_path.replace("{home}", str(home))
        consumers = Consumers(home, value)
        for line in consumers.lines():
            assert line.compiler.search is not None, line.compiler.problem
            model = Linker.of(line.compiler.search, line.own, value, consumers.libraries)
            for name in ("cudart", "cuda"):
                flags = [*(f"-L{folder}" for folder in line.own), f"-l{name}"]
                told = ask_ld(line.compiler.command, flags, object_file, os.getcwd(), value)
                resolution = model.find(name)
                assert_same(resolution, told, os.getcwd())
                ends += [resolution.ends] if line.consumer == "flashinfer" else []
    return ends


def assert_right_before_and_after_lib64(home: Path, object_file: Path) -> None:
    assert "missing" in assert_the_model_is_right(home, object_file)
    (home / "lib64").symlink_to("lib")
    ends = assert_the_model_is_right(home, object_file)
    assert "found" in ends


def test_the_model_is_right_on_a_conda_prefix(conda_cudart12: Path, object_file: Path) -> None:
    assert_right_before_and_after_lib64(conda_cudart12, object_file)
    assert set(assert_the_model_is_right(conda_cudart12, object_file)) == {"found"}


def test_the_model_is_right_on_a_conda_prefix_of_several_releases(
    conda_mixed: Path, object_file: Path
) -> None:
    assert_right_before_and_after_lib64(conda_mixed, object_file)


@pytest.mark.download
def test_the_model_is_right_on_a_complete_conda_prefix(conda13: Path, object_file: Path) -> None:
    assert_right_before_and_after_lib64(conda13, object_file)


def test_the_model_is_right_with_pips_cuda_13(pip_cu13: Path, object_file: Path) -> None:
    home = site_packages(pip_cu13) / "nvidia/cu13"
    assert "missing" in assert_the_model_is_right(home, object_file)
    (home / "lib64").symlink_to("lib")
    assert_the_model_is_right(home, object_file)
    (home / "lib/libcudart.so").symlink_to("libcudart.so.13")
    assert "found" in assert_the_model_is_right(home, object_file)


def test_the_model_is_right_with_pips_cuda_12(pip_cu12: Path, object_file: Path) -> None:
    home = site_packages(pip_cu12) / "nvidia/cuda_runtime"
    assert "missing" in assert_the_model_is_right(home, object_file)
    (home / "lib64").symlink_to("lib")
    (home / "lib/libcudart.so").symlink_to("libcudart.so.12")
    assert "found" in assert_the_model_is_right(home, object_file)


def test_the_model_is_right_on_dangling_links_after_an_upgrade(
    conda_cudart12: Path, object_file: Path
) -> None:
    (conda_cudart12 / TARGET / "lib/libcudart.so.12").unlink()
    assert set(assert_the_model_is_right(conda_cudart12, object_file)) >= {"missing"}


def test_the_model_is_right_on_this_machines_own_toolkits(object_file: Path) -> None:
    homes = sorted(Path("/usr/local").glob("cuda*"))
    if not homes:
        pytest.skip("no /usr/local/cuda* on this machine")
    for home in homes:
        assert_the_model_is_right(home, object_file)
