"""Where ninja, cmake, ccache and Python.h are, for the PATH that is judged."""

from collections.abc import Mapping

from cudadoctor.facts import BuildTools, Distribution, Environ, Packages, Target
from cudadoctor.probes.tools import probe
from cudadoctor.testing import FakeHost, Link

SITE = "/v/lib/python3.12/site-packages"
INCLUDE = "/usr/include/python3.12"


def seen(files: Mapping[str, object], *path: str, run: tuple[str, ...] = (), ninja: str = "") -> BuildTools:
    target = Target("/v", "venv", "/v/bin/python3", "3.12.4", "/usr", (SITE,), INCLUDE, "--prefix", True)
    packages = Packages((Distribution("ninja", ninja, SITE),) if ninja else ())
    return probe(FakeHost(files, executables=run), target, Environ({}, "", path or ("/usr/bin",)), packages)


def test_a_program_is_the_first_on_the_judged_path() -> None:
    tools = seen(
        {}, "/v/bin", "/usr/bin", run=("/v/bin/ninja", "/usr/bin/ninja", "/usr/bin/cmake"), ninja="1.13.0"
    )
    assert (tools.tools["ninja"].path, tools.tools["ninja"].version) == ("/v/bin/ninja", "1.13.0")
    assert (tools.tools["cmake"].path, tools.tools["cmake"].version) == ("/usr/bin/cmake", "")
    assert tools.tools["ccache"].path == ""


def test_the_version_of_the_package_is_not_that_of_another_program() -> None:
    assert seen({}, run=("/usr/bin/ninja",), ninja="1.13.0").tools["ninja"].version == ""


def test_a_program_off_the_judged_path_is_pointed_out() -> None:
    ninja = seen({}, run=("/v/bin/ninja",), ninja="1.13.0").tools["ninja"]
    assert (ninja.path, ninja.elsewhere, ninja.version) == ("", "/v/bin/ninja", "1.13.0")


def test_what_cannot_be_run_is_no_program() -> None:
    files = {"/usr/bin/ninja": "text", "/usr/bin/cmake/": "", "/usr/bin/ccache": Link("gone")}
    assert not any(tool.path for tool in seen(files).tools.values())


def test_a_python_h_behind_a_closed_folder_is_not_called_missing() -> None:
    closed = seen({"/usr/include": PermissionError(13, "Permission denied")})
    assert (closed.python_header, closed.python_header_barred) == ("", "/usr/include")
    assert seen({}).python_header_barred == ""


def test_python_h_is_looked_for_in_the_base_s_include_folder() -> None:
    found, absent = seen({f"{INCLUDE}/Python.h": ""}), seen({f"{INCLUDE}/Python.h/": ""})
    assert (found.python_header, absent.python_header) == (f"{INCLUDE}/Python.h", "")
    assert absent.python_header_looked == (f"{INCLUDE}/Python.h",)
