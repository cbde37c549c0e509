"""The environment as rows: its Python, variables, packages, and the machine that it is on."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.compare.roots import Roots
from cudadoctor.compare.rows import Row, size
from cudadoctor.facts import Conda, Distribution, Environ, Machine, Packages, Target
from cudadoctor.versions import series


def target(section: Target, roots: Roots) -> Iterator[Row]:
    """Yield what kind of environment it is, not where it is."""
    yield Row("kind", section.kind, section.kind, "environment")
    if section.version:
        yield Row(
            "python", section.version, section.version, "Python", (f"python {series(section.version)}",)
        )
    if section.lock_file:
        name = section.lock_file.rpartition("/")[2]
        yield Row("lock", name, name, "lock file of the project")
    for folder in section.site_packages:
        if not roots.plain(folder).startswith("{site"):
            yield _folder(folder, "site-packages folders", roots)


def _folder(folder: str, group: str, roots: Roots) -> Row:
    plain = roots.plain(folder)
    what = f"{folder} on PATH" if group == ON_PATH else f"{folder} among the {group}"
    return Row(f"{group} {plain}", "there", "there", what, (plain,), group, "missing", item=folder)


ON_PATH = "folders on PATH"


def environ(section: Environ, roots: Roots) -> Iterator[Row]:
    """Yield each variable, and each folder on PATH."""
    for name, variable in section.variables.items():
        if name == "PATH":
            continue
        plain = roots.plain(variable.value)
        if name in _ENVIRONMENTS and plain in (roots.name, "{env}"):
            plain = "{env}"
        yield Row(name, plain, variable.value or "empty", name, (name,), "variables", "unset")
    for folder in section.path:
        yield _folder(folder, ON_PATH, roots)
    order = " ".join(map(roots.plain, section.path))
    yield Row("order", order, ":".join(section.path), "PATH", (), "", "empty", ON_PATH)


#: Variables that hold an environment's name or place, which are two machines' own.
_ENVIRONMENTS = frozenset(("CONDA_DEFAULT_ENV", "CONDA_PREFIX", "VIRTUAL_ENV", "VIRTUAL_ENV_PROMPT"))


def packages(section: Packages, roots: Roots) -> Iterator[Row]:
    """Yield each distribution with its version, torch's as torch itself states it."""
    by_name: dict[str, list[Distribution]] = {}
    for each in section.distributions:
        by_name.setdefault(each.name, []).append(each)
    for name in sorted(by_name, key=_of_no_stack):
        found = by_name[name]
        told = ", ".join(sorted(_told(each, section, roots) for each in found))
        names = (name, *_ALSO.get(name, ()))
        yield Row(name, roots.plain(told), told, name, names, "packages", "not installed")
    if section.torch is not None and "torch" not in by_name:
        version = section.torch.version
        yield Row("torch", version, version, "torch", ("torch",), "packages", "not installed")
    if section.flashinfer is not None and section.flashinfer.ldflags:
        flags = " ".join(section.flashinfer.ldflags)
        what = "FlashInfer's link flags"
        yield Row("ldflags", flags, flags, what, (), "", "none", "flashinfer-python")
    for folder in section.unreadable:
        yield _folder(folder, "unreadable site-packages folders", roots)


_STACK = ("torch", "vllm", "flashinfer-python", "triton")


def _of_no_stack(name: str) -> tuple[bool, bool, bool]:
    """Return what sorts the stack's packages to the front: of a hundred names the first few are read."""
    return name not in _STACK, not name.startswith(_STACK), not name.startswith(("cuda", "nvidia-"))


_ALSO = {"flashinfer-python": ("flashinfer",), "pytorch-triton": ("triton",)}


def _told(each: Distribution, section: Packages, roots: Roots) -> str:
    version = each.version or "of unknown version"
    torch = section.torch
    if each.name == "torch" and torch is not None:
        version = torch.version if torch.version.startswith(each.version) else version
        version += f" (CUDA {torch.cuda})" if torch.cuda and "+cu" not in version else ""
    elsewhere = "" if roots.plain(each.location).startswith("{site") else f" in {each.location}"
    damage = " (its metadata cannot be read)" if each.problem else ""
    over = f" over conda's {each.conda}" if each.conda else ""
    return f"{version}{elsewhere}{damage}{over}"


def conda(section: Conda, roots: Roots) -> Iterator[Row]:
    """Yield each record with version and build, and the activation scripts."""
    for each in section.records:
        told = " ".join(filter(None, (each.version, each.build)))
        yield Row(each.name, told, told, each.name, (each.name,), "conda packages", "not installed")
    for path in section.activation:
        name = path.rpartition("/")[2]
        names = (roots.plain(path),)
        yield Row(f"activate.d/{name}", 1, "there", f"activate.d/{name}", names, "", "missing")


def machine(section: Machine, roots: Roots) -> Iterator[Row]:
    """Yield what the machine is and what it allows; not whose it is, nor what is free on it."""
    yield Row("arch", section.arch, section.arch, "architecture")
    yield Row("release", section.release, section.release or section.system, "operating system")
    yield Row("kernel", section.kernel, section.kernel, "kernel", ("kernel",))
    yield Row("cores", section.cores, str(section.cores), "CPU cores", ("cores",))
    memory = section.memory_total_bytes
    names = ("memory",)
    yield Row("memory", round(memory / (1 << 30)), size(memory), "memory", names)
    available = section.memory_available_bytes
    yield Row("available", available, size(available), "memory available", names, volatile=True)
    for name, limit in (("soft", section.stack_soft_kib), ("hard", section.stack_hard_kib)):
        shown = "unlimited" if limit is None else f"{limit} KiB"
        yield Row(f"stack {name}", shown, shown, f"{name} limit of the stack", ("ulimit -s",))
    container = section.container or "none"
    yield Row("container", container, container, "container")
    yield Row("wsl", section.wsl, "yes" if section.wsl else "no", "WSL")
    for module in section.modules:
        yield Row(f"module {module}", 1, "loaded", f"module {module}", (module,), "", "not loaded")
