"""Real conda prefixes holding NVIDIA's own files, solved and installed by a real conda solver and installer.

The files come out of NVIDIA's wheels and go into conda packages laid out as conda-forge lays out CUDA: the
payload under targets/x86_64-linux, relative links to it in lib/ and lib/stubs/, no lib64, headers under
targets/ alone. The channel is a local folder. Where no wheel has the file (the driver's stub, the nvcc of
CUDA 12) we make one.

    python -m tests.real.conda_prefix PROFILE PREFIX [--work DIR] [--with-python]
"""

import argparse
import asyncio
import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from .pip_prefix import Missing, fetch_wheel

TARGET = "targets/x86_64-linux"
SUBDIR: Final = "linux-64"
EULA = "LicenseRef-NVIDIA-End-User-License-Agreement"

#: Seconds since 1970 on every file and record: packages built twice are the same, byte for byte.
BUILT_S = 1_767_225_600

# --- what packages are made of ------------------------------------------------------------------------------


@dataclass(frozen=True)
class File:
    data: bytes
    executable: bool = False


@dataclass(frozen=True)
class Link:
    target: str


Payload = dict[str, File | Link]


@dataclass(frozen=True)
class Package:
    """One conda package to build.

    `take` maps a pattern on a path in the wheel to where the file goes in the prefix. `links` maps a path in
    the prefix to what the symbolic link there says. `make` gives files that no wheel has.
    """

    name: str
    version: str
    depends: tuple[str, ...] = ()
    noarch: bool = False
    wheel: str = ""
    take: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    make: Callable[[], Payload] | None = None
    constrains: tuple[str, ...] = ()

    @property
    def subdir(self) -> str:
        return "noarch" if self.noarch else SUBDIR


@dataclass(frozen=True)
class Profile:
    """The packages of a channel, and what the user asked conda for."""

    packages: tuple[Package, ...]
    requested: tuple[str, ...]


# --- files that no wheel has --------------------------------------------------------------------------------

STUB_FUNCTIONS = """
cuInit cuDriverGetVersion cuDeviceGet cuDeviceGetCount cuDeviceGetAttribute cuDeviceGetName
cuDevicePrimaryCtxRetain cuDevicePrimaryCtxRelease_v2 cuCtxGetCurrent cuCtxSetCurrent cuCtxGetDevice
cuGetErrorName cuGetErrorString cuGetProcAddress cuGetProcAddress_v2 cuMemAlloc_v2 cuMemFree_v2
cuModuleLoadData cuModuleUnload cuModuleGetFunction cuLibraryLoadData cuLibraryUnload cuLibraryGetKernel
cuKernelGetFunction cuFuncSetAttribute cuLaunchKernel cuLaunchKernelEx cuTensorMapEncodeTiled
cuDeviceTotalMem_v2 cuStreamSynchronize
"""

#: What every function of a stub library answers: CUDA_ERROR_STUB_LIBRARY of cuda.h.
STUB_ANSWER = 34

NVCC_12_8 = """\
#!/bin/sh
# Stands in for nvcc 12.8.61, which no wheel has: it tells its version and compiles nothing.
case "$1" in --version | -V) ;; *) echo "nvcc fatal   : stand-in, cannot compile" >&2; exit 1 ;; esac
cat <<'EOF'
nvcc: NVIDIA (R) Cuda compiler driver
Copyright (c) 2005-2025 NVIDIA Corporation
Built on Wed_Jan_15_19:20:09_PST_2025
Cuda compilation tools, release 12.8, V12.8.61
Build cuda_12.8.r12.8/compiler.35404655_0
EOF
"""

#: NVIDIA's profile with TOP moved under targets/, as conda-forge patches it.
NVCC_PROFILE = """\
TOP              = $(_HERE_)/../$(_TARGET_DIR_)

CICC_PATH        = $(TOP)/nvvm/bin
NVVMIR_LIBRARY_DIR = $(TOP)/nvvm/libdevice

LD_LIBRARY_PATH += $(TOP)/lib:
PATH            += $(TOP)/bin:$(CICC_PATH):$(TOP)/../../bin:$(TOP)/../../nvvm/bin:

INCLUDES        +=  "-I$(TOP)/include" $(_SPACE_) $(CUDA_INCLUDE_DIRS) $(_SPACE_)
SYSTEM_INCLUDES +=  "-isystem" "$(TOP)/include/cccl" $(_SPACE_)

LIBRARIES        =+ $(_SPACE_) "-L$(TOP)/lib/stubs" "-L$(TOP)/lib" $(_SPACE_) $(CUDA_LINK_DIRS) $(_SPACE_)

CUDAFE_FLAGS    +=
PTXAS_FLAGS     +=
"""


def stub_library() -> Payload:
    """Compile a libcuda.so to link against: soname libcuda.so.1, and no driver behind any function."""
    gcc = shutil.which("gcc")
    if gcc is None:
        raise Missing("gcc is not on PATH")
    code = "".join(f"int {name}(void) {{ return {STUB_ANSWER}; }}\n" for name in STUB_FUNCTIONS.split())
    flags = ("-shared", "-fPIC", "-s", "-Wl,-soname,libcuda.so.1", "-Wl,--build-id=none")
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "stub.c"), Path(folder, "libcuda.so")
        source.write_text(code)
        subprocess.run([gcc, *flags, "-o", str(library), str(source)], check=True)
        return {f"{TARGET}/lib/stubs/libcuda.so": File(library.read_bytes(), executable=True)}


#: Parts of the standard library that no environment under test has a use for: 200 MB with their caches.
TRIMMED = frozenset(
    ("test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data", "__pycache__")
)


def python_files() -> Payload:
    """Return this interpreter and its standard library, trimmed and stripped, laid out for a prefix."""
    release = "python{}.{}".format(*sys.version_info)
    executable = Path(sys.base_prefix, "bin", release).read_bytes()
    out: Payload = {f"bin/{release}": File(executable, executable=True)}
    out["bin/python"] = out["bin/python3"] = Link(release)
    out[f"lib/{release}/site-packages/README.txt"] = File(b"")
    if b"$ORIGIN" in executable:  # it looks for its own library beside itself, not at a fixed path
        for library in Path(sys.base_prefix, "lib").glob("libpython3.*.so.1.0"):
            out[f"lib/{library.name}"] = File(_stripped(library), executable=True)
    for file in _standard_library(Path(sysconfig.get_path("stdlib"))):
        out[f"lib/{release}/{file.relative_to(sysconfig.get_path('stdlib'))}"] = File(_stripped(file))
    return out


def _standard_library(root: Path) -> list[Path]:
    found = []
    for folder, folders, names in os.walk(root):
        skip = {*TRIMMED, "site-packages", "dist-packages"}
        folders[:] = [name for name in folders if name not in skip and not name.startswith("config-")]
        found += [Path(folder, name) for name in names]
    return found


def _stripped(file: Path) -> bytes:
    strip = shutil.which("strip")
    if strip is None or ".so" not in file.suffixes:
        return file.read_bytes()
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run([strip, "--strip-unneeded", "-o", out.name, str(file)], check=True)
        return Path(out.name).read_bytes()


# --- the packages of conda-forge ----------------------------------------------------------------------------


def cudart(version: str, wheel: str, root: str, cuda: str = "") -> tuple[Package, ...]:
    """Return the four packages of the CUDA runtime.

    `root` is the runtime's folder in the wheel. `cuda`, such as 12.8, makes them depend on that cuda-version.
    """
    major = version.split(".")[0]
    pin = (f"cuda-version {cuda}.*",) if cuda else ()
    soname, real, lib = f"libcudart.so.{major}", f"libcudart.so.{version}", f"{TARGET}/lib"
    return (
        Package(
            "cuda-cudart_linux-64", version, pin, noarch=True, wheel=wheel,
            take={rf"{root}/lib/libcudart\.so\.{major}$": f"{lib}/{real}"}, links={f"{lib}/{soname}": real},
        ),
        Package(
            "cuda-cudart", version, (*pin, f"cuda-cudart_linux-64 {version}"),
            links={f"lib/{name}": f"../{lib}/{name}" for name in (soname, real)},
        ),
        Package(
            "cuda-cudart-dev_linux-64", version,
            (*pin, f"cuda-cudart_linux-64 {version}", "cuda-cccl_linux-64"), noarch=True, wheel=wheel,
            take={rf"{root}/include/(.+)$": rf"{TARGET}/include/\1"}, links={f"{lib}/libcudart.so": soname},
        ),
        Package(
            "cuda-cudart-dev", version,
            (*pin, f"cuda-cudart {version}", f"cuda-cudart-dev_linux-64 {version}"),
            links={"lib/libcudart.so": f"../{lib}/libcudart.so"},
        ),
    )  # fmt: skip


def cudart_static(version: str, wheel: str, root: str, cuda: str) -> tuple[Package, ...]:
    """Return the two packages of the static runtime, which the wheels of CUDA 12 do not have."""
    pin, names = f"cuda-version {cuda}.*", ("libcudart_static.a", "libcudadevrt.a")
    target = Package(
        "cuda-cudart-static_linux-64", version, (pin,), noarch=True, wheel=wheel,
        take={rf"{root}/lib/(.+\.a)$": rf"{TARGET}/lib/\1"},
    )  # fmt: skip
    depends = (pin, f"cuda-cudart-static_linux-64 {version}")
    links = {f"lib/{name}": f"../{TARGET}/lib/{name}" for name in names}
    return (target, Package("cuda-cudart-static", version, depends, links=links))


def driver_stub(version: str, cuda: str = "") -> tuple[Package, ...]:
    """Return the two packages that bring the libcuda.so to link against."""
    pin = (f"cuda-version {cuda}.*",) if cuda else ()
    stub = "lib/stubs/libcuda.so"
    return (
        Package("cuda-driver-dev_linux-64", version, pin, noarch=True, make=stub_library),
        Package(
            "cuda-driver-dev", version, (*pin, f"cuda-driver-dev_linux-64 {version}"),
            links={stub: f"../../{TARGET}/{stub}"},
        ),
    )  # fmt: skip


def cuda_version(release: str) -> Package:
    major = release.split(".")[0]
    return Package("cuda-version", release, noarch=True, constrains=(f"__cuda >={major}",))


def compiler_13() -> tuple[Package, ...]:
    """Return nvcc 13.0.88 in the parts that conda-forge splits it into."""
    version, pin = "13.0.88", "cuda-version 13.0.*"
    nvcc, nvvm, crt = (f"nvidia-{name}=={version}" for name in ("cuda-nvcc", "nvvm", "cuda-crt"))
    include = {r"nvidia/cu13/include/(.+)$": rf"{TARGET}/include/\1"}
    tools = (f"cuda-crt-tools {version}", f"cuda-nvvm-tools {version}")
    dev = (f"cuda-crt-dev_linux-64 {version}", f"cuda-nvvm-dev_linux-64 {version}")
    runtime = ("cuda-cudart-dev", "cuda-cudart-static")
    impl = (f"cuda-nvcc-tools {version}", f"cuda-nvcc-dev_linux-64 {version}", *runtime)
    return (
        Package("cuda-crt-dev_linux-64", version, (pin,), noarch=True, wheel=crt, take=include),
        Package("cuda-crt-tools", version, (pin,), wheel=nvcc, take={r"nvidia/cu13/(bin/crt/.+)$": r"\1"}),
        Package("cuda-nvvm-tools", version, (pin,), wheel=nvvm, take={r"nvidia/cu13/(nvvm/.+)$": r"\1"}),
        Package(
            "cuda-nvvm-dev_linux-64", version, (pin,), noarch=True, links={f"{TARGET}/nvvm": "../../nvvm"},
        ),
        Package(
            "cuda-nvcc-tools", version, (pin, *tools), wheel=nvcc,
            take={r"nvidia/cu13/(bin/(?!nvcc\.profile)[^/]+)$": r"\1"},
            make=lambda: {"bin/nvcc.profile": File(NVCC_PROFILE.encode())},
        ),
        Package(
            "cuda-nvcc-dev_linux-64", version, (pin, *dev), noarch=True, wheel=nvcc,
            take=include, links={f"{TARGET}/bin/nvcc": "../../../bin/nvcc"},
        ),
        Package("cuda-nvcc-impl", version, (pin, *impl)),
        Package("cuda-nvcc", version, (pin, f"cuda-nvcc-impl {version}")),
    )  # fmt: skip


# --- profiles -----------------------------------------------------------------------------------------------

CUDART_12 = ("12.8.90", "nvidia-cuda-runtime-cu12==12.8.90", "nvidia/cuda_runtime")
CUDART_13 = ("13.0.96", "nvidia-cuda-runtime==13.0.96", "nvidia/cu13")


def cudart12() -> Profile:
    """Return the 12.8 runtime with its stub: enough to link against, a 1 MB download."""
    packages = (
        cuda_version("12.8"),
        *cudart(*CUDART_12, cuda="12.8"),
        *driver_stub("12.8.90", cuda="12.8"),
        Package("cuda-cccl_linux-64", "12.8.90", ("cuda-version 12.8.*",), noarch=True),
    )
    return Profile(packages, ("cuda-cudart-dev==12.8.90", "cuda-driver-dev==12.8.90", "cuda-version==12.8"))


def mixed() -> Profile:
    """Return one real machine's mix of 12.4, 12.6 and 12.8, most of it as records without files."""
    records = (
        Package("cuda-cccl_linux-64", "12.8.90", noarch=True),
        Package("cuda-nvcc", "12.8.61", ("cuda-nvcc-tools 12.8.61",)),
        Package("cuda-nvrtc", "12.4.127"),
        Package("cuda-nvrtc-dev", "12.4.127", ("cuda-nvrtc 12.4.127",)),
        Package("cuda-libraries-dev", "12.6.2", ("cuda-nvrtc-dev", "libcublas-dev", "libcusparse-dev")),
        Package("libcublas-dev", "12.4.5.8"),
        Package("libcusparse-dev", "12.3.1.170"),
        Package("gcc_impl_linux-64", "11.2.0"),
        Package("gxx_linux-64", "11.2.0", ("gcc_impl_linux-64 11.2.0",)),
    )
    stand_in: Payload = {"bin/nvcc": File(NVCC_12_8.encode(), executable=True)}
    nvcc = Package("cuda-nvcc-tools", "12.8.61", make=lambda: stand_in)
    asked = ("cuda-nvcc", "cuda-cudart-dev", "cuda-libraries-dev", "cuda-driver-dev", "gxx_linux-64")
    packages = (*cudart(*CUDART_12), *driver_stub("12.8.90"), nvcc, *records)
    versions = {package.name: package.version for package in packages}
    return Profile(packages, tuple(f"{name}=={versions[name]}" for name in asked))


def cuda13() -> Profile:
    """Return a complete 13.0 toolchain whose nvcc compiles: a 105 MB download."""
    cccl = Package(
        "cuda-cccl_linux-64", "13.0.85", ("cuda-version 13.0.*",), noarch=True,
        wheel="nvidia-cuda-cccl==13.0.85", take={r"nvidia/cu13/include/(.+)$": rf"{TARGET}/include/\1"},
    )  # fmt: skip
    packages = (
        cuda_version("13.0"),
        cccl,
        *cudart(*CUDART_13, cuda="13.0"),
        *cudart_static(*CUDART_13, cuda="13.0"),
        *driver_stub("13.0.96", cuda="13.0"),
        *compiler_13(),
    )
    return Profile(packages, ("cuda-nvcc==13.0.88", "cuda-driver-dev==13.0.96", "cuda-version==13.0"))


PROFILES: Mapping[str, Callable[[], Profile]] = {"cudart12": cudart12, "mixed": mixed, "cuda13": cuda13}


def with_interpreter(profile: Profile) -> Profile:
    """Return the profile with this interpreter as its python package."""
    version = "{}.{}.{}".format(*sys.version_info)
    python = Package("python", version, make=python_files)
    return Profile((*profile.packages, python), (*profile.requested, f"python=={version}"))


# --- building packages --------------------------------------------------------------------------------------


def payload(package: Package, work: Path) -> Payload:
    """Return the files and links of a package."""
    out: Payload = _taken(package, fetch_wheel(package.wheel, work)) if package.wheel else {}
    if package.make is not None:
        out.update(package.make())
    out.update({path: Link(target) for path, target in package.links.items()})
    return out


def _taken(package: Package, wheel: Path) -> Payload:
    out: Payload = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(("/", "__init__.py")):
                continue
            for pattern, place in package.take.items():
                if found := re.match(pattern, name):
                    data = archive.read(name)
                    # The wheels hold every file as 0644, programs too.
                    out[found.expand(place)] = File(data, executable=data.startswith(b"\x7fELF"))
    return out


def path_entries(files: Payload, world: Payload) -> list[dict[str, object]]:
    """Return the rows of paths.json; as with conda-build, a link has the hash of the file it leads to."""
    rows: list[dict[str, object]] = []
    for path, entry in sorted(files.items()):
        data = _content(path, world)
        kind = "softlink" if isinstance(entry, Link) else "hardlink"
        digest = hashlib.sha256(data).hexdigest()
        rows.append({"_path": path, "path_type": kind, "sha256": digest, "size_in_bytes": len(data)})
    return rows


def _content(path: str, world: Payload) -> bytes:
    entry = world.get(path)
    while isinstance(entry, Link):
        path = os.path.normpath(os.path.join(os.path.dirname(path), entry.target))
        entry = world.get(path)
    return b"" if entry is None else entry.data


def index_record(package: Package, rows: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Return index.json. The build string follows the content: no package cache serves an older build."""
    content = [package.name, package.version, package.depends, list(rows)]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    record: dict[str, object] = {
        "name": package.name,
        "version": package.version,
        "build": f"h{digest[:7]}_0",
        "build_number": 0,
        "subdir": package.subdir,
        "arch": None if package.noarch else "x86_64",
        "platform": None if package.noarch else "linux",
        "depends": list(package.depends),
        "constrains": list(package.constrains),
        "license": "Python-2.0" if package.name == "python" else EULA,
        "timestamp": BUILT_S * 1000,
    }
    return {**record, "noarch": "generic"} if package.noarch else record


def write_package(package: Package, files: Payload, world: Payload, channel: Path) -> Path:
    """Write one .conda file into the channel and return its path."""
    rows = path_entries(files, world)
    index = index_record(package, rows)
    info: dict[str, object] = {
        "index.json": index,
        "paths.json": {"paths": rows, "paths_version": 1},
        "about.json": {"license": index["license"], "summary": f"{package.name}, repacked for tests"},
    }
    members: Payload = {}
    for name, body in info.items():
        members[f"info/{name}"] = File(json.dumps(body, indent=2).encode())
    members["info/files"] = File("".join(f"{path}\n" for path in sorted(files)).encode())
    stem = f"{package.name}-{package.version}-{index['build']}"
    out = channel / package.subdir / f"{stem}.conda"
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("metadata.json", json.dumps({"conda_pkg_format_version": 2}))
        archive.writestr(f"pkg-{stem}.tar.zst", _packed(files))
        archive.writestr(f"info-{stem}.tar.zst", _packed(members))
    return out


def _packed(members: Payload) -> bytes:
    import zstandard

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, entry in sorted(members.items()):
            member = tarfile.TarInfo(path)
            member.mtime = BUILT_S
            if isinstance(entry, Link):
                member.type, member.linkname, member.mode = tarfile.SYMTYPE, entry.target, 0o777
                archive.addfile(member)
            else:
                member.size, member.mode = len(entry.data), 0o755 if entry.executable else 0o644
                archive.addfile(member, io.BytesIO(entry.data))
    return zstandard.ZstdCompressor(level=1, threads=-1).compress(buffer.getvalue())


def write_channel(profile: Profile, channel: Path, work: Path) -> None:
    """Build every package of the profile into an empty channel folder and index it."""
    from rattler.index import index_fs

    shutil.rmtree(channel, ignore_errors=True)
    for subdir in (SUBDIR, "noarch"):
        (channel / subdir).mkdir(parents=True)
    payloads = {package.name: payload(package, work) for package in profile.packages}
    world = {path: entry for files in payloads.values() for path, entry in files.items()}
    for package in profile.packages:
        write_package(package, payloads[package.name], world, channel)
    asyncio.run(index_fs(channel))


# --- installing ---------------------------------------------------------------------------------------------


async def install_specs(specs: Sequence[str], channel: Path, prefix: Path, work: Path) -> list[str]:
    """Solve and install, and return the distributions as conda's history names them."""
    import rattler

    gateway = rattler.Gateway(cache_dir=work / "repodata")
    source = rattler.Channel(channel.as_uri() + "/")
    records = await rattler.solve([source], list(specs), gateway=gateway, platforms=[SUBDIR, "noarch"])
    # rattler.install of py-rattler 0.28 hands these on as they are, and its core takes only the inner object.
    inner = cast(Any, [rattler.MatchSpec(spec)._match_spec for spec in specs])
    await rattler.install(
        records, prefix, cache_dir=work / "pkgs", show_progress=False, requested_specs=inner
    )
    names = (f"{item.subdir}::{item.name.normalized}-{item.version}-{item.build}" for item in records)
    return sorted(f"{channel.as_uri()}/{name}" for name in names)


def write_history(prefix: Path, channel: Path, specs: Sequence[str], distributions: Sequence[str]) -> None:
    """Write conda-meta/history in conda's own format, which only conda itself writes."""
    command = ("conda", "create", "-y", "-p", str(prefix), "-c", channel.as_uri(), *specs)
    lines = [
        time.strftime("==> %Y-%m-%d %H:%M:%S <=="),
        f"# cmd: {' '.join(command)}",
        "# conda version: 24.11.1",
        *(f"+{name}" for name in distributions),
        f"# update specs: {list(specs)!r}",
    ]
    (prefix / "conda-meta" / "history").write_text("\n".join(lines) + "\n")


def make_prefix(profile: str, prefix: Path, work: Path, *, with_python: bool = False) -> Path:
    """Make a conda prefix of a profile (see PROFILES) and return it.

    Downloads, packages and caches stay in `work` for the next time. Raises Missing when something that this
    takes is not to be had: the network, gcc, py-rattler, zstandard.
    """
    for module in ("rattler", "zstandard"):
        if importlib.util.find_spec(module) is None:
            raise Missing(f"the Python module {module} is not installed")
    prefix, work = prefix.resolve(), work.resolve()
    chosen = PROFILES[profile]()
    if with_python:
        chosen = with_interpreter(chosen)
    channel = work / "channels" / (f"{profile}-python" if with_python else profile)
    write_channel(chosen, channel, work)
    distributions = asyncio.run(install_specs(chosen.requested, channel, prefix, work))
    write_history(prefix, channel, chosen.requested, distributions)
    for record in (prefix / "conda-meta").iterdir():
        record.chmod(0o644)  # as conda leaves them; rattler writes 0600
    return prefix


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a conda prefix that holds real NVIDIA files.")
    parser.add_argument("profile", choices=sorted(PROFILES))
    parser.add_argument("prefix", type=Path)
    parser.add_argument("--work", type=Path, default=Path("~/.cache/cudadoctor-tests").expanduser())
    parser.add_argument("--with-python", action="store_true", help="give the prefix its own interpreter")
    chosen = parser.parse_args()
    print(make_prefix(chosen.profile, chosen.prefix, chosen.work, with_python=chosen.with_python))


if __name__ == "__main__":
    main()
