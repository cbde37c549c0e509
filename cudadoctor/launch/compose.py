"""A compose file: what one of its services runs, with which variables, and what the container is given.

Values are taken from the caller's variables first and from `.env` beside the file after them. A command
written as one text is split as compose splits it (https://github.com/mattn/go-shellwords, commit 0377e1db,
read 2026-11-21): no shell, and nothing behind an operator.
A service that extends another is put together with it by the rules of merging
(https://docs.docker.com/reference/compose-file/merge/, read 2026-11-21).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from cudadoctor.facts.launch import Container, Launch, Mount, Port
from cudadoctor.host import Host
from cudadoctor.launch import containers, dockerfile
from cudadoctor.launch.dotenv import assignments, nearby
from cudadoctor.launch.draft import Draft
from cudadoctor.launch.interpolation import Interpolation
from cudadoctor.launch.texts import LaunchUnreadable, Word, beside, whole
from cudadoctor.launch.yaml_text import Node, parse
from cudadoctor.mistakes import nearest

if TYPE_CHECKING:
    from cudadoctor.launch.options import Options

_OPERATORS = ";&|<>"
#: The names that compose looks for, the first of them first.
STANDARD = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
_DEEPEST = 16  #: services that extend each other
#: Of a service that extends another: what is replaced, and the lists that are names with values.
_REPLACED = frozenset(("command", "entrypoint", "healthcheck"))
_NAMED = frozenset(("environment", "args", "labels", "sysctls", "extra_hosts"))
_DOCKERFILE = "Dockerfile"
#: What `docker compose up` reads as well where no file is named to it.
_OVERRIDES = tuple(
    f"{name}.override.{end}" for name in ("compose", "docker-compose") for end in ("yaml", "yml")
)


def read(host: Host, path: str, service: str = "", options: Options | None = None) -> Launch:
    """Return the launch of a service: the one that is named, the only one, or the only one that is vLLM's.

    Raises LaunchUnreadable with the line of what cannot be read, and for a service that is not there.
    """
    tree = parse(whole(host, path), path)
    services = tree.get("services")
    if services is None or not services.pairs:
        raise LaunchUnreadable(f"{path}:{tree.line}: no services in it, so this is no compose file")
    found = services.pairs
    if service:
        if service not in found:
            raise LaunchUnreadable(f"{path}: no service is called {service!r}{nearest(service, found)}")
        return _Service(host, path, service, tree, options).launch()
    launches = {name: _Service(host, path, name, tree, options).launch() for name in found}
    vllm = [name for name, launch in launches.items() if launch.kind != "other"]
    if len(vllm) != 1 and len(launches) != 1:
        names = ", ".join(vllm or launches)
        which = "start vLLM" if vllm else "and none that is known to start vLLM"
        raise LaunchUnreadable(f"{path}: several services ({names}) {which}: name one")
    return launches[vllm[0]] if vllm else next(iter(launches.values()))


class _Service:
    def __init__(self, host: Host, path: str, name: str, tree: Node, options: Options | None) -> None:
        node = _under(tree, "services", name)
        if node is None or node.pairs is None:
            line = node.line if node else tree.line
            raise LaunchUnreadable(f"{path}:{line}: the service {name} has nothing in it")
        self.host, self.path, self.name = host, path, name
        self.draft = Draft(host, f"{path}, service {name}", options)
        self.node = self._extended(node, tree, frozenset((name,)))
        self.draft.nearby = nearby(host, path)
        if (more := tree.get("include")) is not None:
            self.draft.note("`include` is not followed", self._at(more), "not-followed")
        for other in _OVERRIDES:
            if host.kind(beside(path, other)) == "file":
                self.draft.note(f"{other} beside it is not read", beside(path, other), "not-followed")

    def launch(self) -> Launch:
        draft, node = self.draft, self.node
        draft.clean = True
        self._variables()
        image = self._text("image")
        container = self._container(image)
        draft.container = container
        draft.folder = self._text("working_dir")
        entrypoint, command = self._words("entrypoint"), self._words("command")
        if node.get("build") is not None:
            return self._built(container, entrypoint, command)
        stage = dockerfile.Stage(image, None, None, {}, {}, "", "", [])
        return dockerfile.started(draft, stage, self.path, entrypoint, command)

    def _built(
        self, container: Container, entrypoint: list[Word] | None, command: list[Word] | None
    ) -> Launch:
        """Return the launch of an image that is built of a Dockerfile in reach."""
        build = self.node.get("build")
        assert build is not None
        folder = self._put(build) if build.scalar else self._text("context", build) or "."
        name = self._text("dockerfile", build) if build.pairs else ""
        file = beside(f"{beside(self.path, folder).rstrip('/')}/x", name or _DOCKERFILE)
        if (inline := build.get("dockerfile_inline")) is not None:
            text, file = inline.text, f"{self.path}, dockerfile_inline"
        else:
            text = whole(self.host, file.replace("/./", "/"))
        arguments = dict(self._pairs(build.get("args")))
        target = self._text("target", build)
        stage = dockerfile.last_stage(
            text, file, {k: v for k, (v, _) in arguments.items() if v is not None}, target
        )
        if not container.image:
            self.draft.container = structs.replace(container, image=stage.base)
        return dockerfile.started(self.draft, stage, file, entrypoint, command)

    def _extended(self, node: Node, tree: Node, seen: frozenset[str]) -> Node:
        """Return a service with what it has of the one that it extends, in this file or in one beside it."""
        extends = node.get("extends")
        if extends is None:
            return node
        file = self._literal(extends, "file")
        name = extends.text if extends.scalar else self._literal(extends, "service")
        path = beside(self.path, file) if file else ""
        key = f"{file}\0{name}" if file else name
        said = ""
        if "/" in file.removeprefix("./"):
            said = f"`extends` is not followed into another folder: {file}"
        elif not name or "$" in name + file or key in seen or len(seen) > _DEEPEST:
            said = "`extends` is not followed"
        else:
            try:
                tree = parse(whole(self.host, path), path) if file else tree
            except LaunchUnreadable as error:
                said = f"`extends` is not followed: {error}"
        base = _under(tree, "services", name) if not said else None
        if base is None or base.pairs is None:
            said = said or f"`extends` is not followed: no service is called {name!r}"
            self.draft.note(said, self._at(extends), "not-followed")
            self.draft.partial = self.draft.partial or said
            return node
        return merged(self._extended(base, tree, seen | {key}), node)

    def _literal(self, node: Node, name: str) -> str:
        found = node.get(name)
        return found.text if found is not None and found.scalar else ""

    # --- values ---------------------------------------------------------------------------------------------

    def _at(self, node: Node) -> str:
        return f"{node.source or self.path}:{node.line}"

    def _lookup(self, name: str) -> str | None:
        value = self.host.environ.get(name)
        if value is None and name in self.draft.nearby:
            value = self.draft.nearby[name].value
        return value

    def _put(self, node: Node) -> str:
        """Return a scalar with its variables replaced; what is not set is noted."""
        return self._replaced(node.text, node) if node.scalar else ""

    def _replaced(self, text: str, node: Node) -> str:
        interpolation = Interpolation(self._lookup, "$$", self.path)
        text = interpolation.put(text, node.line)
        for missing in interpolation.missing:
            said = f"{missing.name} is not set: compose puts an empty text in its place"
            if missing.required is not None:
                because = missing.required or "it is required"
                said = f"{missing.name} is not set, and compose ends there: {because}"
            named = "variable-empty" if missing.required is None else "variable-required"
            self.draft.note(said, self._at(node), named)
        return text

    def _text(self, name: str, node: Node | None = None) -> str:
        found = (node or self.node).get(name)
        return "" if found is None or (found.scalar and found.value is None) else self._put(found)

    def _pairs(self, node: Node | None) -> list[tuple[str, tuple[str | None, str]]]:
        """Return names with value and place, of a mapping or a list of NAME=value; None: no value given."""
        found: list[tuple[str, tuple[str | None, str]]] = []
        for key, inner in (node.pairs or {}).items() if node is not None else ():
            null = inner.scalar and inner.value is None
            found.append((key, (None if null else self._put(inner), self._at(inner))))
        for item in (node.items or ()) if node is not None else ():
            name, equals, value = self._put(item).partition("=")
            found.append((name, (value if equals else None, self._at(item))))
        return found

    def _variables(self) -> None:
        """Set what `env_file` and, over it, `environment` give the container."""
        files = self.node.get("env_file")
        for item in (files.items or (files,)) if files is not None else ():
            self._env_file(item)
        for name, (value, origin) in self._pairs(self.node.get("environment")):
            value = self._lookup(name) if value is None else value
            if value is not None:
                self.draft.assign(name, value, origin)
            else:
                self.draft.note(
                    f"{name} is not set, so the container does not get it", origin, "variable-absent"
                )

    def _env_file(self, item: Node) -> None:
        path = beside(self.path, self._text("path", item) if item.pairs else self._put(item))
        required = item.get("required")
        if self.host.kind(path) != "file" and required is not None and required.value is False:
            return
        for line, name, value in assignments(whole(self.host, path), path, self._lookup):
            self.draft.assign(name, value, f"{path}:{line}")

    def _words(self, name: str) -> list[Word] | None:
        """Return a command in its words, None where none is given."""
        node = self.node.get(name)
        if node is None or (node.scalar and node.value is None):
            return None
        if node.items is not None:
            return [Word(self._put(item), self._at(item)) for item in node.items]
        if node.pairs is not None:
            raise LaunchUnreadable(f"{self._at(node)}: {name} is neither a text nor a list")
        words, behind = split(self._put(node), self._at(node))
        if behind:
            text = f"compose runs no shell: {behind!r} and all behind it are left out of the {name}"
            self.draft.note(text, self._at(node), "operator-in-command")
        if any(word != word.strip() for word in words):
            text = (
                "a backslash at a line's end continues nothing here: it makes a blank part of the next word"
            )
            self.draft.note(text, self._at(node), "backslash-in-command")
        return [
            Word(word.strip() if word.strip() else word, self._at(node))
            for word in words
            if word.strip() or not word
        ]

    # --- what the container is given ------------------------------------------------------------------------

    def _container(self, image: str) -> Container:
        node = self.node
        ports, mounts = node.get("ports"), node.get("volumes")
        limits = _under(node, "deploy", "resources", "limits")
        return Container(
            "compose",
            image,
            service=self.name,
            shm_size=self._text("shm_size"),
            ipc=self._text("ipc"),
            network=self._text("network_mode"),
            memory=self._text("mem_limit") or (self._text("memory", limits) if limits else ""),
            gpus=self._gpus(),
            runtime=self._text("runtime"),
            user=self._text("user"),
            platform=self._text("platform"),
            ports=tuple(self._port(item) for item in (ports.items or ())) if ports else (),
            mounts=tuple(self._mount(item) for item in (mounts.items or ())) if mounts else (),
        )

    def _gpus(self) -> str:
        """Return which GPUs are asked for, by `gpus` or by the reservations of `deploy`."""
        node = self.node.get("gpus")
        reserved = _under(self.node, "deploy", "resources", "reservations")
        devices = reserved.get("devices") if reserved else None
        if node is not None and node.scalar:
            return self._put(node)
        for device in ((node or devices).items or ()) if node or devices else ():  # type: ignore[union-attr]
            if ids := device.get("device_ids"):
                return "device=" + ",".join(self._put(item) for item in ids.items or ())
            capabilities = device.get("capabilities")
            kinds = {item.text for item in (capabilities.items or ())} if capabilities else {"gpu"}
            if kinds & {"gpu", "nvidia"} or self._text("driver", device) == "nvidia":
                return self._text("count", device) or "all"
        return ""

    def _port(self, item: Node) -> Port:
        if item.pairs is not None:
            return Port(self._text("published", item), self._text("target", item))
        return containers.port(self._put(item))

    def _mount(self, item: Node) -> Mount:
        if item.pairs is None:
            found = containers.mount(self._put(item))
        else:
            read_only = item.get("read_only")
            found = Mount(
                self._text("source", item),
                self._text("target", item),
                bool(read_only and read_only.value is True),
            )
        if found.source.startswith("."):
            source = beside(self.path, found.source)
            # Without a slash it would be a volume's name.
            return structs.replace(found, source=source if "/" in source else f"./{source}")
        if found.source.startswith("~/"):
            return structs.replace(found, source=self.host.home() + found.source[1:])
        return found


def merged(base: Node, own: Node) -> Node:
    """Return a service put together with the one that it extends, or a mapping in it.

    Mappings are merged, lists are joined, all else is replaced: a command is no list in this.
    """
    pairs = dict(base.pairs or {})
    for name, node in (own.pairs or {}).items():
        before = pairs.get(name)
        pairs[name] = node if before is None or name in _REPLACED else _together(name, before, node)
    pairs.pop("extends", None)
    return structs.replace(own, pairs=pairs)


def _together(name: str, before: Node, node: Node) -> Node:
    if name in _NAMED:
        before, node = _as_pairs(before), _as_pairs(node)
    if name == "env_file":
        before, node = _as_list(before), _as_list(node)
    if before.pairs is not None and node.pairs is not None:
        return merged(before, node)
    if before.items is None or node.items is None:
        return node
    kept = before.items
    if name == "volumes":
        targets = {_target(item) for item in node.items}
        kept = tuple(item for item in kept if _target(item) not in targets)
    return structs.replace(node, items=(*kept, *node.items))


def _as_pairs(node: Node) -> Node:
    """Return a list of NAME=value as the mapping that it stands for; a bare name has no value."""
    if node.items is None:
        return node
    pairs: dict[str, Node] = {}
    for item in node.items:
        name, equals, value = item.text.partition("=")
        text = value if equals else None
        pairs[name] = structs.replace(item, text=text or "", value=text)
    return structs.replace(node, items=None, pairs=pairs)


def _as_list(node: Node) -> Node:
    return node if node.items is not None else Node(node.line, items=(node,), source=node.source)


def _target(item: Node) -> str:
    target = item.get("target")
    return target.text if target is not None else containers.mount(item.text).target


def _under(node: Node, *names: str) -> Node | None:
    found: Node | None = node
    for name in names:
        found = found.get(name) if found is not None else None
    return found


def split(text: str, origin: str) -> tuple[list[str], str]:
    """Return the words of a command written as one text, and the operator at which compose stops reading.

    Raises LaunchUnreadable for quotes that are never closed and for brackets outside of them.
    """
    words: list[str] = []
    word: str | None = None
    quote, escaped = "", False
    for char in text:
        if escaped:
            word, escaped = (word or "") + {"t": "\t", "n": "\n"}.get(char, char), False
        elif char == "\\" and quote != "'":
            escaped = True
        elif quote:
            word, quote = ((word or "") + (char if char != quote else ""), quote if char != quote else "")
        elif char in " \t\r\n":
            words += [word] if word is not None else []
            word = None
        elif char in "'\"`":
            quote, word = char, word or ""
        elif char in "()" or char in _OPERATORS:
            if char in "()":
                raise LaunchUnreadable(f"{origin}: compose takes no {char!r} in a command without quotes")
            return [*words, *([word] if word and not word.isdigit() else [])], char
        else:
            word = (word or "") + char
    if quote or escaped:
        raise LaunchUnreadable(f"{origin}: the quote {quote or 'after a backslash'} is never closed")
    return [*words, *([word] if word is not None else [])], ""
