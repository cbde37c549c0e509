"""Distributions as they are found on disk: whole, broken, doubled, editable, in old formats."""

import importlib.metadata
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from cudadoctor.facts import Distribution, Packages, Target
from cudadoctor.host import RealHost
from cudadoctor.probes.packages import normalise, probe
from cudadoctor.testing import FakeHost, Link, Special

SITE = "/v/lib/python3.12/site-packages"


def target(*sites: str) -> Target:
    return Target("/v", "venv", "/v/bin/python3", "3.12.4", "/usr", sites or (SITE,), "", "--prefix", True)


def seen(files: Mapping[str, object], *sites: str) -> Packages:
    return probe(FakeHost({f"{SITE}/": "", **files}), target(*sites))


def metadata(name: str, version: str, *requires: str, end: str = "\n") -> str:
    lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    return end.join([*lines, "", f"About {name}", "Version: 0", "Requires-Dist: nothing", ""])


def installed(name: str, version: str, *requires: str, installer: str = "pip") -> dict[str, object]:
    folder = f"{SITE}/{name}-{version}.dist-info"
    return {f"{folder}/METADATA": metadata(name, version, *requires), f"{folder}/INSTALLER": f"{installer}\n"}


def only(packages: Packages) -> Distribution:
    (found,) = packages.distributions
    return found


# --- what is read -------------------------------------------------------------------------------------------


def test_the_stack_is_read_whole() -> None:
    files = installed(
        "torch", "2.9.0+cu128", "triton==3.5.0; sys_platform == 'linux'", "numpy", installer="uv"
    )
    found = only(seen(files))
    assert (found.name, found.version, found.location, found.installer) == (
        "torch",
        "2.9.0+cu128",
        SITE,
        "uv",
    )
    assert found.requires == ("triton==3.5.0; sys_platform == 'linux'", "numpy")


def test_others_are_read_too_but_for_who_installed_them() -> None:
    found = only(seen(installed("Flask_SQLAlchemy", "3.1.0", "flask>=2.2.5")))
    assert (found.name, found.version, found.requires) == ("flask-sqlalchemy", "3.1.0", ("flask>=2.2.5",))
    assert (found.installer, found.problem) == ("", "")
    assert found.path == f"{SITE}/Flask_SQLAlchemy-3.1.0.dist-info/METADATA"


def test_in_a_conda_environment_it_is_told_who_installed_what() -> None:
    conda = msgspec.structs.replace(target(), kind="conda")
    assert only(probe(FakeHost(installed("numpy", "2.0", installer="conda")), conda)).installer == "conda"


@pytest.mark.parametrize(
    "line",
    ["c; extra == 'x'", 'c[a,b] (>=1,<2) ; extra=="x-y"', "c>=1;python_version<'3' and extra == 'x'",
     "c; (sys_platform == 'linux' or os_name == 'nt') and (extra == 'x')"],
)  # fmt: skip
def test_what_an_extra_requires_is_left_out(line: str) -> None:
    kept = ("b", "c; extra == 'x' or os_name == 'posix'", "c; extra != 'x'", "c >>> 1; extra == 'x'")
    url = "c @ https://x/c;extra=='x'"
    found = only(seen(installed("a", "1", "b", line, *kept[1:], url)))
    assert {*found.requires} - {line} == {*kept, url}
    plain = " or " not in line
    assert (line not in found.requires) == plain
    toolkit = only(seen(installed("cuda-toolkit", "13.0.2", line)))
    assert toolkit.requires == (line,), "its extras tell which wheels belong together"


def test_folded_and_lower_case_headers_are_read() -> None:
    text = metadata("a", "1").replace(
        "\n\n", "\nrequires-dist: b\n  >=2,\n\t<3\nRequires-Python: >=3.9, <4\n\n", 1
    )
    found = only(seen({f"{SITE}/a-1.dist-info/METADATA": text}))
    assert (found.requires, found.python) == (("b >=2, <3",), ">=3.9, <4")


def test_the_name_and_version_of_the_folder_count_as_for_pip() -> None:
    found = only(seen({f"{SITE}/torch-2.9.0.dist-info/METADATA": metadata("Torch-x", "2.8")}))
    assert (found.name, found.version) == ("torch", "2.9.0")


def test_headers_longer_than_the_first_look_are_read_whole() -> None:
    requires = [f"package-number-{number}>=1.{number}" for number in range(900)]
    assert len(only(seen(installed("vllm", "0.12.0", *requires))).requires) == 900


@pytest.mark.parametrize(
    ("entry", "name", "version"),
    [
        ("Torch-2.9.0.dist-info", "torch", "2.9.0"),
        ("nvidia_cuda_runtime_cu12-12.8.90.dist-info", "nvidia-cuda-runtime-cu12", "12.8.90"),
        ("nvidia-cuda-runtime-cu12-12.8.90.dist-info", "nvidia-cuda-runtime-cu12", "12.8.90"),
        ("zope.interface-6.0.dist-info", "zope-interface", "6.0"),
        ("a--_.b-1.dist-info", "a-b", "1"),
        ("PyYAML-6.0-py3.11.egg-info/x", "pyyaml", "6.0"),
        ("thing-1!2.0rc1.dev3+local.1-py3.12-linux-x86_64.egg/x", "thing", "1!2.0rc1.dev3+local.1"),
        ("two-parts-1.0-py3.11.egg-info/x", "two-parts", "1.0"),
    ],
)
def test_names_and_versions_are_taken_apart(entry: str, name: str, version: str) -> None:
    folder, _, inside = entry.partition("/")
    text = metadata(name, version)
    inside = "EGG-INFO/PKG-INFO" if folder.endswith(".egg") else "PKG-INFO" if inside else "METADATA"
    found = only(seen({f"{SITE}/{folder}/{inside}": text}))
    assert (found.name, found.version, found.problem) == (name, version, "")


def test_names_are_normalised_as_packaging_does() -> None:
    from packaging.utils import canonicalize_name

    for name in ("Flask", "a_b", "a.b", "a-_.b", "A__B", "x---y", "Zope.Interface", "flash_attn"):
        assert normalise(name) == canonicalize_name(name)


def test_metadata_with_windows_line_ends_is_read() -> None:
    found = only(
        seen(
            {f"{SITE}/vllm-0.12.0.dist-info/METADATA": metadata("vllm", "0.12.0", "torch==2.9.0", end="\r\n")}
        )
    )
    assert (found.version, found.requires) == ("0.12.0", ("torch==2.9.0",))


def test_an_egg_info_may_be_a_file() -> None:
    found = only(seen({f"{SITE}/torch-1.0.egg-info": metadata("torch", "1.0")}))
    assert (found.name, found.version, found.problem) == ("torch", "1.0", "")


def test_an_egg_is_a_folder_on_the_path_of_its_own() -> None:
    egg = f"{SITE}/flash_attn-2.5.8-py3.10-linux-x86_64.egg"
    found = only(seen({f"{egg}/EGG-INFO/PKG-INFO": metadata("flash-attn", "2.5.8", "torch")}))
    assert (found.name, found.version, found.location, found.requires) == (
        "flash-attn",
        "2.5.8",
        egg,
        ("torch",),
    )


def test_a_zipped_egg_tells_its_name_and_version() -> None:
    found = only(seen({f"{SITE}/flash_attn-2.5.8-py3.10.egg": b"PK\x03\x04"}))
    assert (found.name, found.version, found.problem) == ("flash-attn", "2.5.8", "")


def test_sources_in_development_are_followed() -> None:
    files = {
        f"{SITE}/flash-attn.egg-link": "/src/flash\n.",
        "/src/flash/flash_attn.egg-info/PKG-INFO": metadata("flash-attn", "2.6.dev0"),
    }
    found = only(seen(files))
    assert (found.name, found.version, found.location) == ("flash-attn", "2.6.dev0", "/src/flash")


def test_the_first_folder_s_distribution_comes_first() -> None:
    files = {**installed("numpy", "2.0"), "/late/numpy-1.0.dist-info/METADATA": ""}
    found = seen(files, SITE, "/late").find("numpy")
    assert found is not None and found.version == "2.0"


def test_two_versions_of_one_project_are_both_told() -> None:
    packages = seen({**installed("torch", "2.9.0"), **installed("torch", "2.10.0")})
    assert [d.version for d in packages.distributions] == ["2.10.0", "2.9.0"]


# --- what is broken -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "damaged"),
        (b"\x00" * 5000, "damaged"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "damaged"),
        (b"\xff\xfe" * 100, "damaged"),
        (b"Name: torch\n\nVersion: 2.9.0\n", "damaged"),
        (b"x" * (2 << 20), "larger than 1 MiB"),
        (Special(), "not a regular file"),
        (Link("METADATA"), "symbolic links"),
        (Link("gone"), "no METADATA in it"),
        (PermissionError(13, "Permission denied"), "Permission denied"),
    ],
)
def test_a_broken_distribution_is_a_fact(content: object, says: str) -> None:
    found = only(seen({f"{SITE}/torch-2.9.0.dist-info/METADATA": content}))
    assert (found.name, found.version) == ("torch", "2.9.0")
    assert says in found.problem and found.problem.startswith("torch-2.9.0.dist-info: ")


def test_a_folder_without_metadata_is_a_fact() -> None:
    assert "no METADATA" in only(seen({f"{SITE}/vllm-0.12.0.dist-info/": ""})).problem
    assert "no PKG-INFO" in only(seen({f"{SITE}/torch.egg-info/": ""})).problem
    assert only(seen({f"{SITE}/torch.egg-link": Link("torch.egg-link")})).problem
    assert only(seen({f"{SITE}/torch.egg-link": ""})).problem


def test_what_an_interrupted_pip_leaves_is_not_taken_for_the_project() -> None:
    found = only(seen({f"{SITE}/~orch-2.9.0.dist-info/METADATA": metadata("torch", "2.9.0")}))
    assert found.name == "~orch" and "interrupted pip" in found.problem


@pytest.mark.parametrize("ending", ["dist-info/METADATA", "egg-info/PKG-INFO"])
def test_what_an_older_pip_leaves_has_a_dash_for_the_first_letter(ending: str) -> None:
    found = only(seen({f"{SITE}/-ip-1.{ending}": metadata("pip", "1")}))
    assert (found.name, found.version) == ("~ip", "1")
    assert found.problem == f"-ip-1.{ending.partition('/')[0]}: left behind by an interrupted pip"


def test_a_folder_that_cannot_be_listed_is_told_and_the_others_are_read() -> None:
    files = {**installed("numpy", "2.0"), "/secret/": PermissionError(13, "Permission denied")}
    packages = seen(files, "/secret", SITE, "/gone")
    assert only(packages).name == "numpy"
    assert packages.unreadable == ("/secret: Permission denied", "/gone: No such file or directory")


@pytest.mark.parametrize(
    "entry", [".dist-info", "-.dist-info", "-1.dist-info", ".egg-info", ".egg", "a-.dist-info"]
)
def test_names_that_are_none_do_no_harm(entry: str) -> None:
    seen({f"{SITE}/{entry}/METADATA": ""})


# --- further folders, further owners ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    ["/more", "/more/", "../../../../more", "import site; site.addsitedir('/more')", "# x\n\n/more\n/gone"],
)
def test_folders_that_a_pth_file_adds_are_looked_at(line: str) -> None:
    files = {"/more/b-2.dist-info/METADATA": metadata("b", "2"), **installed("b", "1")}
    packages = seen({**files, f"{SITE}/x.pth": f"{line}\n", f"{SITE}/y.pth": Special(), "/more/z.pth": "/v"})
    assert [d.version for d in packages.distributions] == ["1", "2"] and not packages.unreadable


def test_of_a_folder_that_pythonpath_names_no_pth_file_counts() -> None:
    files = {f"{SITE}/x.pth": "/more\n", "/more/b-2.dist-info/METADATA": metadata("b", "2")}
    assert not probe(FakeHost(files, {"PYTHONPATH": f"/x:{SITE}"}), target()).distributions
    assert probe(FakeHost(files), target()).distributions


def test_an_old_editable_install_is_told_once() -> None:
    files = {
        f"{SITE}/flash-attn.egg-link": "/src/flash\n.",
        f"{SITE}/easy-install.pth": "/src/flash\n",
        "/src/flash/flash_attn.egg-info/PKG-INFO": metadata("flash-attn", "2.6.dev0"),
    }
    assert only(seen(files)).version == "2.6.dev0"


RECORD_JSON = '{"files": ["lib/python3.12/site-packages/numpy-1.26.4.dist-info/METADATA"]}'
SIZES = """{"files": [], "paths_data": {"paths": [
  {"_path": "lib/python3.12/site-packages/numpy-1.26.4.dist-info/INSTALLER", "size_in_bytes": %d}]}}"""


@pytest.mark.parametrize(
    ("version", "installer", "record", "over"),
    [
        ("2.0.0", "pip", RECORD_JSON, True),
        ("1.26.4", "pip", SIZES % 6, True),
        ("1.26.4", "pip", SIZES % 4, False),  # a package of conda's that pip built
        ("1.26.4", "pip", RECORD_JSON, False),
        ("1.26.4", "conda", RECORD_JSON, False),
        ("2.0.0", "pip", "{", False),
    ],
)
def test_what_pip_put_over_conda_s_is_told(version: str, installer: str, record: str, over: bool) -> None:
    file = "/v/conda-meta/numpy-1.26.4-py312_0.json"
    host = FakeHost({**installed("numpy", version, installer=installer), file: record})
    found = only(probe(host, msgspec.structs.replace(target(), kind="conda")))
    assert found.conda == (file if over else "")


def record_of(**files: str) -> str:
    """Return a RECORD of modules with these contents."""
    import base64
    import hashlib

    digests = {
        name: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        for name, text in files.items()
    }
    return "".join(f"numpy/{name}.py,sha256={digest},9\n" for name, digest in digests.items())


def test_of_two_in_one_folder_it_is_told_whose_files_are_there() -> None:
    files = {
        **installed("numpy", "1.26.4"),
        **installed("numpy", "2.0.0"),
        f"{SITE}/numpy-1.26.4.dist-info/RECORD": record_of(same="x", version="1.26.4"),
        f"{SITE}/numpy-2.0.0.dist-info/RECORD": record_of(same="x", version="2.0.0"),
        f"{SITE}/numpy/same.py": "x",
        f"{SITE}/numpy/version.py": "2.0.0",
    }
    old, new = seen(files).distributions
    assert (old.own_file, new.own_file) == ("", "numpy/version.py")
    files[f"{SITE}/numpy-2.0.0.dist-info/RECORD"] = Special()
    assert [d.own_file for d in seen(files).distributions] == ["", ""]


# --- torch --------------------------------------------------------------------------------------------------

VERSION_PY = (
    "__version__ = '2.9.0+cu128'\ndebug = False\ncuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n"
)


def test_torch_s_own_word_counts() -> None:
    files = {**installed("torch", "2.9.0"), f"{SITE}/torch/version.py": VERSION_PY}
    torch = seen(files).torch
    assert torch is not None
    assert (torch.version, torch.cuda, torch.hip, torch.root) == ("2.9.0+cu128", "12.8", "", f"{SITE}/torch")


@pytest.mark.parametrize(
    ("text", "cuda", "hip"),
    [
        ("__version__ = '2.9.0+cpu'\ncuda = None\nhip = None\n", "", ""),
        ("__version__ = '2.9.0+rocm6.3'\ncuda = None\nhip = '6.3.42131'\n", "", "6.3.42131"),
        ('__version__ = "1.8.0"\ncuda = "11.1"\n', "11.1", ""),
        ("__version__: str = '2.15.0'\ncuda: Optional[str] = '13.2'\n", "13.2", ""),
    ],
)
def test_cpu_rocm_and_cuda_builds_are_told_apart(text: str, cuda: str, hip: str) -> None:
    torch = seen({**installed("torch", "2.9.0"), f"{SITE}/torch/version.py": text}).torch
    assert torch is not None and (torch.cuda, torch.hip) == (cuda, hip)


@pytest.mark.parametrize(
    ("version", "requires", "cuda", "hip"),
    [
        ("2.9.0+cu128", (), "12.8", ""),
        ("2.9.0+cu130", (), "13.0", ""),
        ("2.9.0+cpu", (), "", ""),
        ("2.9.0+rocm6.3", (), "", "6.3"),
        ("2.9.0", ("nvidia-cuda-runtime-cu12==12.8.90; platform_system == 'Linux'",), "12.8", ""),
        ("2.11.0", ("cuda-toolkit[cublas,cudart]==13.0.2; sys_platform == 'linux'",), "13.0", ""),
    ],
)
def test_metadata_stands_in_for_a_lost_version_py(
    version: str, requires: tuple[str, ...], cuda: str, hip: str
) -> None:
    torch = seen({**installed("torch", version, *requires), f"{SITE}/torch/version.py": Special()}).torch
    assert torch is not None and (torch.version, torch.cuda, torch.hip) == (version, cuda, hip)


def test_torch_with_damaged_metadata_is_still_installed() -> None:
    files = {f"{SITE}/torch-2.9.0.dist-info/METADATA": b"\0", f"{SITE}/torch/version.py": VERSION_PY}
    packages = seen(files)
    assert packages.torch is not None and packages.torch.cuda == "12.8"
    assert only(packages).problem


@pytest.mark.parametrize(
    "editable",
    [
        {"__editable__.torch-2.9.0.pth": "/src/pytorch\n"},
        {"__editable___torch_2_9_0_finder.py": "MAPPING: dict[str, str] = {'torch': '/src/pytorch/torch'}\n"},
    ],
)
def test_an_editable_torch_is_followed_to_its_sources(editable: dict[str, str]) -> None:
    files = {f"{SITE}/{name}": text for name, text in editable.items()}
    found = seen({**installed("torch", "2.9.0"), **files, "/src/pytorch/torch/version.py": VERSION_PY}).torch
    assert found is not None and (found.root, found.cuda) == ("/src/pytorch/torch", "12.8")


def test_an_absent_stack_is_absent() -> None:
    packages = seen(installed("numpy", "2.0"))
    assert (packages.torch, packages.flashinfer, packages.triton) == (None, None, None)


# --- FlashInfer and Triton ----------------------------------------------------------------------------------

CPP_EXT = """
    ldflags = [
        "-shared",
        "-L$cuda_home/lib64",
        "-L$cuda_home/lib64/stubs",
        "-lcudart",
        "-lcuda",
    ]
"""


def test_flashinfer_s_link_flags_are_read_from_its_source() -> None:
    files = {**installed("flashinfer-python", "0.5.3"), f"{SITE}/flashinfer/jit/cpp_ext.py": CPP_EXT}
    found = seen({**files, **installed("flashinfer-jit-cache", "0.5.3+cu130")}).flashinfer
    assert found is not None
    assert found.ldflags == (
        "-shared",
        "-L$cuda_home/lib64",
        "-L$cuda_home/lib64/stubs",
        "-lcudart",
        "-lcuda",
    )
    assert (found.ldflags_source, found.jit_cache) == (f"{SITE}/flashinfer/jit/cpp_ext.py", "0.5.3+cu130")


@pytest.mark.parametrize(
    ("version", "flag"),
    [("0.5.3", "-lcuda"), ("0.3.1", "-lc10"), ("0.2.5", "-lcudart"), ("nightly", "-lcuda"), ("", "-lcuda")],
)
@pytest.mark.parametrize("source", [None, "ldflags = [f'{other}/x']", "", b"\xff\0"])
def test_known_forms_stand_in_for_an_unreadable_source(version: str, flag: str, source: object) -> None:
    files: dict[str, object] = {f"{SITE}/flashinfer_python-{version}.dist-info/": ""}
    if source is not None:
        files[f"{SITE}/flashinfer/jit/cpp_ext.py"] = source
    found = seen(files).flashinfer
    assert found is not None and flag in found.ldflags and found.ldflags_source.startswith("known form")


def test_triton_s_driver_library_is_read_from_its_source() -> None:
    driver = f"{SITE}/triton/backends/nvidia/driver.py"
    files = {**installed("triton", "3.5.0"), driver: "libraries = ['libcuda.so.1']\n"}
    found = seen(files).triton
    assert found is not None and (found.libraries, found.source) == (("libcuda.so.1",), driver)
    bare = seen(installed("triton", "3.5.0")).triton
    assert bare is not None and bare.libraries == ()


# --- a real environment -------------------------------------------------------------------------------------


def test_names_and_versions_are_those_that_python_reports() -> None:
    prefix = Path(sys.prefix)
    sites = tuple(
        path for path in sys.path if path.endswith("site-packages") and path.startswith(str(prefix))
    )
    ours = {(d.name, d.version) for d in probe(RealHost(), target(*sites)).distributions}
    theirs = {
        (normalise(d.metadata["Name"]), d.version) for d in importlib.metadata.distributions(path=list(sites))
    }
    assert ours == theirs


def test_an_editable_install_of_the_old_kind_is_followed_for_real(tmp_path: Path) -> None:
    source = tmp_path / "src"
    (source / "torch").mkdir(parents=True)
    (source / "torch/version.py").write_text(VERSION_PY)
    site = tmp_path / "site"
    site.mkdir()
    code = """from setuptools.dist import Distribution
d = Distribution({"name": "torch", "version": "2.9.0", "packages": ["torch"], "script_name": "setup.py"})
d.run_command("egg_info")
"""
    made = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    if made.returncode:
        pytest.skip("no setuptools here")
    (site / "torch.egg-link").write_text(f"{source}\n.")
    packages = probe(RealHost(), target(str(site)))
    assert only(packages).version == "2.9.0" and not only(packages).problem
    assert packages.torch is not None and packages.torch.root == f"{source}/torch"


def test_a_distribution_costs_one_file_to_be_opened(tmp_path: Path) -> None:
    def fill(name: str, count: int) -> Target:
        site = tmp_path / name
        for number in range(count):
            (site / f"thing_{number}-1.{number}.dist-info").mkdir(parents=True)
        for number in range(40):
            (site / f"nvidia_{number}-1.0.dist-info").mkdir()
            (site / f"nvidia_{number}-1.0.dist-info/METADATA").write_text(metadata("nvidia", "1.0", "a", "b"))
        return target(str(site))

    class Counting(RealHost):
        def head(self, path: str, count_bytes: int) -> bytes:
            opened.append(path)
            return super().head(path, count_bytes)

    opened: list[str] = []

    def cost(target: Target) -> int:
        opened.clear()
        assert len(probe(Counting(), target).distributions) > 100
        return len(opened)

    assert cost(fill("large", 960)) - cost(fill("small", 130)) == 960 - 130


def test_a_million_files_beside_the_metadata_are_not_looked_at() -> None:
    class Counting(FakeHost):
        def list(self, path: str) -> list[str]:
            listed.append(path)
            return super().list(path)

    listed: list[str] = []
    files = {f"{SITE}/vllm/model_{number}.py": "" for number in range(2000)}
    probe(Counting({**installed("vllm", "0.12.0"), **files}), target())
    assert listed == [SITE]
