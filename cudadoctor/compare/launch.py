"""A launch, its card and what it takes of the machine, as rows; storage and trials too."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from cudadoctor.compare.roots import Roots
from cudadoctor.compare.rows import Row, listed, size
from cudadoctor.facts import Caches, Card, Container, Deep, Launch, Live, Paths, Resources, Storage


def launch(section: Launch, roots: Roots) -> Iterator[Row]:
    """Yield the model, each option and variable of the command, and its container."""
    yield Row("kind", section.kind, section.kind, "kind of launch")
    if section.kind == "other":
        command = shlex.join(section.argv)
        yield Row("argv", roots.plain(command), command, "command")
    if section.model:
        yield Row("model", roots.plain(section.model), section.model, "model", (roots.plain(section.model),))
    for name, given in section.options.items():
        told = " ".join(given.values) or given.reason or "given"
        yield Row(name, roots.plain(told), told, name, (name,), "options", "not given")
    for name, variable in section.variables.items():
        what, group = f"{name} in the launch", "variables of the launch"
        yield Row(f"set {name}", roots.plain(variable.value), variable.value, what, (name,), group, "unset")
    for name in section.unset:
        yield Row(f"unset {name}", 1, "unset", f"{name} in the launch", (name,), "", "not touched")
    if section.wrappers:
        told = listed(section.wrappers)
        yield Row("wrappers", roots.plain(told), told, "started through")
    if section.image:
        yield Row("image", section.image, section.image, "image", (section.image,))
    if section.container is not None:
        yield from _container(section.container, roots)


def _container(container: Container, roots: Roots) -> Iterator[Row]:
    for field in ("engine", "shm_size", "ipc", "network", "memory", "gpus", "runtime", "user", "platform"):
        if told := getattr(container, field):
            option = field.replace("_", "-")
            yield Row(f"container {field}", told, told, f"{option} of the container", (f"--{option}",))
    for port in container.ports:
        told = f"{port.host}:{port.container}"
        yield Row(
            f"published {told}", 1, "published", f"port {told} of the container", (), "", "not published"
        )
    for mount in container.mounts:
        told = mount.source + (" (read-only)" if mount.read_only else "")
        what = f"{mount.target} in the container"
        yield Row(f"mount {mount.target}", roots.plain(told), told, what, (mount.target,), "", "not mounted")


def card(section: Card, roots: Roots) -> Iterator[Row]:
    """Yield the cards that the launch is planned for."""
    memory = size(section.total_bytes) if section.total_bytes is not None else "memory not known"
    told = f"{section.count} x {section.name} ({listed(filter(None, (section.capability, memory)))})"
    yield Row("card", told, told, "cards of the launch", (section.name,))
    if section.free_bytes is not None:
        free = section.free_bytes
        yield Row("free", free, size(free), "memory free on the card", (section.name,), volatile=True)


def paths(section: Paths, roots: Roots) -> Iterator[Row]:
    """Yield which parts of the stack the launch runs."""
    told = {True: "yes", False: "no", None: "not known"}[section.flashinfer]
    yield Row("flashinfer", told, told, "the launch runs FlashInfer's operators", ("flashinfer",))
    if section.attention:
        yield Row(
            "attention", section.attention, section.attention, "attention backend", (section.attention,)
        )


def resources(section: Resources, roots: Roots) -> Iterator[Row]:
    """Yield the ports that the launch wants, /dev/shm, and the program to be started."""
    for port in section.ports:
        told = listed(sorted(each.command or "taken" for each in port.listeners)) or "free"
        names = (f"port {port.port}", str(port.port))
        yield Row(f"port {port.port}", told, told, f"port {port.port}", names, asked=True)
    shared = section.shared_memory
    if shared is not None:
        total = "no limit" if shared.total_bytes is None else size(shared.total_bytes)
        yield Row("shm", total, total, "/dev/shm", ("/dev/shm",))
        if shared.free_bytes is not None:
            free, what = shared.free_bytes, "free in /dev/shm"
            yield Row("shm free", free, size(free), what, ("/dev/shm",), volatile=True)
    if section.program:
        plain = roots.plain(section.program)
        yield Row("program", plain, section.program, "program of the launch", (plain,), "", "not found")


def storage(section: Storage, roots: Roots) -> Iterator[Row]:
    """Yield where the stack writes to, and whether it can."""
    for place in section.places:
        plain, what = roots.plain(place.path), f"folder of {place.name}"
        names = (plain, roots.plain(place.nearest), place.variable)
        named = (plain, place.variable)
        yield Row(f"path {place.name}", plain, place.path, what, named, "cache folders", asked=True)
        for label, told in (
            ("is blocked", place.blocked and f"{place.blocked} ({place.why})"),
            ("lets no library be loaded", "so" if place.no_exec else ""),
            ("gives no locks", place.unlocked),
        ):
            if told:
                key = f"{label} {place.name}"
                yield Row(key, roots.plain(told), told, f"{what} {label}", names, "", "not so")
        if place.free_bytes is not None:
            free, key = place.free_bytes, f"free {place.name}"
            yield Row(key, free, size(free), f"free in the {what}", names, volatile=True)


def caches(section: Caches, roots: Roots) -> Iterator[Row]:
    """Yield what builds left behind and stands in the way of the next ones."""
    for op in section.ops:
        told = f"{op.cuda_home}, {op.cxx}"
        plain, what = roots.plain(op.path), f"FlashInfer's {op.name} is set up with"
        yield Row(
            f"op {plain}", roots.plain(told), told, what, (plain, op.name), "operators set up", "not set up"
        )
    for built in section.built:
        told = f"needs {built.missing}" if built.missing else f"built with {built.cuda_home}, which is gone"
        plain, what = roots.plain(built.path), f"FlashInfer's {built.name}"
        yield Row(
            f"built {plain}", roots.plain(told), told, what, (plain, built.name), "", "not there, or usable"
        )
    for lock in section.locks:
        told = {True: "held", False: "left over", None: "not known whether held"}[lock.held]
        plain = roots.plain(lock.path)
        yield Row(f"lock {plain}", told, told, f"lock {lock.path}", (plain,), "locks", "not there")


def deep(section: Deep, roots: Roots) -> Iterator[Row]:
    """Yield how each real command ended."""
    for trial in section.trials:
        who = " ".join(filter(None, (trial.name, trial.consumer, trial.compiler, trial.level)))
        told = f"{trial.ended}: {trial.message}" if trial.message else trial.ended
        yield Row(
            who, roots.plain(told), told, f"trial {who}", (trial.name,), "trials", "not tried", "", True
        )


def live(section: Live, roots: Roots) -> Iterator[Row]:
    """Yield how each stage of the import ended, and whose CUDA libraries were loaded."""
    for stage in section.stages:
        told = stage.ended if stage.ended == "passed" else f"{stage.ended}: {stage.message}"
        yield Row(stage.name, roots.plain(told), told, f"stage {stage.name}", (stage.name,))
    for library in section.libraries:
        plain, name = roots.plain(library.path), library.path.rpartition("/")[2]
        yield Row(
            f"loaded {name}", plain, library.path, f"{name}, as loaded", (plain, name), "loaded libraries"
        )
    if section.fp8:
        yield Row("fp8", section.fp8, section.fp8, "FP8 tensors are taken across dlpack by")
