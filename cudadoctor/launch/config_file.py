"""The file given by `--config`: YAML whose keys are options, in front of those of the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cudadoctor.facts.launch import Kind, Note, Refused
from cudadoctor.launch.draft import Draft
from cudadoctor.launch.texts import LaunchUnreadable, Word, whole
from cudadoctor.launch.yaml_text import Node, parse

if TYPE_CHECKING:
    from cudadoctor.launch.options import Options


def included(
    draft: Draft, kind: Kind, words: list[Word], options: Options | None, notes: list[Note]
) -> tuple[list[Word], list[Refused]]:
    """Return the arguments with those of the config file where vLLM puts them: in front of the others."""
    places = [at for at, word in enumerate(words) if word.text == "--config"]
    written = next((word for word in words if word.text.startswith("--config=")), None)
    if written is not None and not places:
        text = (
            "vLLM reads a config file only where --config and its name are two words: this one is passed over"
        )
        if options is not None and not options.has["config-equals"]:
            notes.append(Note(text, written.origin, "config-ignored"))
        return words, []
    if not places:
        return words, []
    at = places[0]
    name = words[at + 1] if at + 1 < len(words) else None
    if len(places) > 1 or name is None:
        expects = "one config file" if name is not None else "the name of a file"
        rest = [word for word in words if word.text != "--config"]
        return rest, [Refused("--config", "--config", words[places[-1]].origin, "config", expects=expects)]
    rest = words[:at] + words[at + 2 :]
    if name.text.rpartition(".")[2] not in ("yaml", "yml"):
        expects = "a file called .yaml or .yml"
        return rest, [Refused("--config", "--config", name.origin, "config", name.text, expects=expects)]
    try:
        found = _read(draft, name, options, notes)
    except LaunchUnreadable as error:
        return rest, [Refused("--config", "--config", name.origin, "config", name.text, expects=str(error))]
    first = 1 if kind == "vllm-serve" and rest and not rest[0].text.startswith("-") else 0
    return rest[:first] + found + rest[first:], []


def _read(draft: Draft, name: Word, options: Options | None, notes: list[Note]) -> list[Word]:
    if name.reason:
        text = f"the config file is not known: {name.reason}"
        notes.append(Note(text, name.origin, "not-followed"))
        draft.partial = draft.partial or text
        return []
    path = _outside(draft, name.text)
    if not path:
        text = f"{name.text} is a file of the image, which cannot be looked into"
        draft.partial = draft.partial or text
        notes.append(Note(text, name.origin, "not-followed"))
        return []
    tree = parse(whole(draft.host, path), path)
    if tree.pairs is None:
        raise LaunchUnreadable(f"{path}:{tree.line}: this is no list of options with their values")
    draft.config = path
    words: list[Word] = []
    for key, node in tree.pairs.items():
        words += _option(key, node, path, options, notes)
    return words


def _outside(draft: Draft, name: str) -> str:
    """Return where a file of the container is on the host: what a mount brings in; "" for any other."""
    if draft.container is None:
        return draft.path(name)
    inside = name if name.startswith("/") or not draft.folder else f"{draft.folder}/{name}"
    for mount in sorted(draft.container.mounts, key=lambda mount: -len(mount.target)):
        target = mount.target.rstrip("/")
        if (inside == target or inside.startswith(f"{target}/")) and mount.source[:1] in ("/", "."):
            return mount.source.rstrip("/") + inside[len(target) :]
    return ""


def _option(key: str, node: Node, path: str, options: Options | None, notes: list[Note]) -> list[Word]:
    origin = f"{path}:{node.line}"
    option = Word(f"--{key}", origin)
    if node.items is not None:
        items = [Word(_text(item), f"{path}:{item.line}") for item in node.items]
        return [option, *items] if items else []
    if node.pairs is not None:
        return [option, Word(_text(node), origin)]
    if node.value is True:
        return [option]
    if node.value is not False:
        return [option, Word(str(node.value), origin)]
    off = f"--no-{key}"
    if options is not None and options.has["config-no"] and options.get(off.replace("_", "-")) is not None:
        return [Word(off, origin)]
    told = options is not None and options.get(f"--{key}".replace("_", "-"))
    if told and told.default is not False:
        text = f"`{key}: false` has no effect: this vLLM passes over what is false in a config file"
        notes.append(Note(text, origin, "config-ignored"))
    return []


def _text(node: Node) -> str:
    if node.scalar:
        return str(node.value)
    try:
        return json.dumps(node.plain(), default=str)
    except (ValueError, RecursionError):
        return ""
