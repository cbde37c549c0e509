"""What decides whether FP8 tensors reach FlashInfer, read off the files: nothing is imported.

torch exports FP8 through dlpack since 2.10.0 (its wheels of 2.9.0, 2.9.1, 2.10.0, 2.13.0 and 2.14.1, tried
2026-11-21). Before that FlashInfer, from 0.4.0 on, depends on a small add-on that tvm-ffi takes from the
wheel torch-c-dlpack-ext, finds in its cache or compiles when it is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from posixpath import dirname

from cudadoctor.facts import Dlpack, DlpackAddon, Environ, Machine, Packages, Target
from cudadoctor.host import Host, names_in, text_of
from cudadoctor.probes.packages import root as import_root
from cudadoctor.versions import numbers

_SOURCE_BYTES = 1 << 18
_DEFAULT = "the default"
_MODULES = ("packaging", "setuptools")
_PACKAGES = {"apache-tvm-ffi": "tvm_ffi", "torch-c-dlpack-ext": "torch_c_dlpack_ext"}
_DEVICES = ("cpu", "cuda")


def probe(host: Host, target: Target, environ: Environ, packages: Packages, machine: Machine) -> Dlpack:
    """Return what is installed for it; no more than whether torch does it by itself where it does."""
    torch = packages.torch
    native = exports_fp8(torch.version) if torch is not None else None
    if torch is None or native:
        return Dlpack(native)
    folders = _search_path(host, target, packages)
    source = _find(host, folders, "tvm_ffi/_optional_torch_c_dlpack.py")
    text = text_of(host, source, _SOURCE_BYTES) if source else ""
    build = (
        "script" if "_build_optional_torch_c_dlpack" in text else "inline" if "load_inline" in text else ""
    )
    cache, cache_source = _cache(environ, machine)
    wheel = _find(host, folders, "torch_c_dlpack_ext/core.py").rpartition("/")[0]
    return Dlpack(
        native,
        source,
        build,  # type: ignore[arg-type]  # mypy widens the three literals
        switch="TVM_FFI_DISABLE_TORCH_C_DLPACK" in text,
        takes_wheel="torch_c_dlpack_ext" in text,
        wheel=wheel,
        missing=tuple(name for name in _MODULES if not _has_module(host, folders, name)),
        cache=cache,
        cache_source=cache_source,
        writable=_writable(host, cache),
        addons=tuple(_addons(host, torch.version, "abi_tag" in text, cache, wheel))
        if build == "script"
        else (),
    )


def exports_fp8(version: str) -> bool | None:
    """Return whether torch of this version does; None for one from before the release of 2.10."""
    found = re.match(r"(\d+)\.(\d+)(?:\.\d+)*((?:a|b|rc|\.dev)\d+)?", version)
    if found is None or (found[3] and (found[1], found[2]) == ("2", "10")):
        return None
    return numbers(version) >= (2, 10)


def _search_path(host: Host, target: Target, packages: Packages) -> list[str]:
    """Return the folders that modules are imported from, those that .pth files add as well."""
    folders = [*target.site_packages, *(d.location for d in packages.distributions)]
    for name, package in _PACKAGES.items():
        if (found := packages.find(name)) is not None:
            folders.append(dirname(import_root(host, found, package)))
    return list(dict.fromkeys(folders))


def _find(host: Host, folders: list[str], name: str) -> str:
    paths = (f"{folder}/{name}" for folder in folders)
    return next((path for path in paths if host.kind(path) == "file"), "")


def _has_module(host: Host, folders: list[str], name: str) -> bool:
    return any(host.kind(f"{folder}/{name}{end}") for folder in folders for end in ("/__init__.py", ".py"))


def _cache(environ: Environ, machine: Machine) -> tuple[str, str]:
    """Return where tvm-ffi caches, by its own rule: XDG_CACHE_HOME has no say in it."""
    value = environ.get("TVM_FFI_CACHE_DIR")
    path = "~/.cache/tvm-ffi" if value is None else value
    if path == "~" or path.startswith("~/"):
        path = f"{machine.home}{path[1:]}"
    if not path.startswith("/"):
        path = f"{environ.cwd}/{path}"
    return path.rstrip("/"), _DEFAULT if value is None else "TVM_FFI_CACHE_DIR"


def _writable(host: Host, folder: str) -> bool:
    """Return whether files can be put there; of a folder that is not there, whether it could be made."""
    while folder and not host.kind(folder, follow=False):
        folder = folder.rpartition("/")[0]
    return host.kind(folder or "/") == "directory" and host.usable(folder or "/")


def _addons(host: Host, version: str, tagged: bool, cache: str, wheel: str) -> Iterator[DlpackAddon]:
    """Yield the add-on for each kind of device, by the names of `_optional_torch_c_dlpack.py`."""
    minor = "".join(version.split(".")[:2])
    cached = names_in(host, cache)
    for device in _DEVICES:
        stem = f"libtorch_c_dlpack_addon_torch{minor}-{device}"
        # Which tags would be this torch's own matters only where there is something with a tag.
        near = any(name.startswith(stem) for name in cached)
        tags = (_tags(version) if near else ["-*"]) if tagged else [""]
        names = [f"{stem}{tag}.so" for tag in tags]
        there = [name for name in names if host.kind(f"{cache}/{name}")]
        path = f"{cache}/{(there or names)[0]}"
        prebuilt = f"{wheel}/{stem}.so" if wheel else ""
        yield DlpackAddon(
            device,
            path,
            prebuilt if host.kind(prebuilt) == "file" else "",
            bool(there),
            _problem(host, path) if there else "",
            any(host.locked(f"{cache}/{name}.lock") for name in names),
        )


def _tags(version: str) -> list[str]:
    """Return what tvm-ffi from 0.1.13 on puts behind the name, for either C++ ABI of this torch.

    A torch of one version string has been built with one of them; pip's from 2.7 on with the new one.
    """
    import hashlib

    identities = [f"{version}|cxx11abi={abi}" for abi in (1, 0)]
    return [f"-{hashlib.sha256(identity.encode()).hexdigest()[:8]}" for identity in identities]


def _problem(host: Host, path: str) -> str:
    from cudadoctor.elf import read

    try:
        return read(host, path).problem
    except OSError as error:
        return error.strerror or str(error)
