"""A server's arguments as vLLM's own parser takes them, and what it will not take.

Where no vLLM can be looked into, an option takes what its name lets one expect.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct, structs

from cudadoctor.facts.launch import Given, Kind, Launch, Note, Refused
from cudadoctor.launch.draft import Draft
from cudadoctor.launch.texts import CALLERS, Word, texts

if TYPE_CHECKING:
    from cudadoctor.launch.options import Option, Options

_NUMBER = re.compile(r"-\d+|-\d*\.\d+")
_HUMAN = re.compile(r"\d+[kKmMgGtT]?|\d+\.\d+[kmgt]")
_DASHED = re.compile(r"(?<=--)[^.]*")
_DOTTED = re.compile(r"(-{1,2}[A-Za-z][\w-]*)\.(.+)", re.DOTALL)
_NEAR, _NEAR_VALUE = 0.75, 0.6
_MANY = frozenset((
    "--served-model-name", "--lora-modules", "--prompt-adapters", "--api-key",
    "--cudagraph-capture-sizes", "--cuda-graph-sizes", "--logits-processors",
    "--allowed-media-domains", "--ignore-patterns",
))  # fmt: skip
_ON = re.compile(
    r"--(enable|disable|no|use|skip|trust|enforce|return|allow-credentials|async|calculate)(-|$)"
)
_SWITCHES = frozenset(("--headless", "--grpc", "--async-scheduling", "--enforce-eager", "--numa-bind"))


class Parsed(Struct):
    """What came of the arguments."""

    options: dict[str, Given] = {}
    operands: list[Word] = []
    refused: list[Refused] = []
    notes: list[Note] = []
    partial: str = ""  #: why there may be more options than these


def served(draft: Draft, kind: Kind, words: list[Word], begin: int) -> Launch:
    """Return the launch of a server whose arguments begin at `begin`."""
    from cudadoctor.launch.config_file import included

    notes: list[Note] = []
    judged = draft.options if draft.container is None else None
    arguments, refused = included(draft, kind, words[begin:], judged, notes)
    parsed = parse(arguments, draft.options, kind == "vllm-serve")
    draft.partial = draft.partial or parsed.partial
    refused += parsed.refused
    model, refusals = _model(draft, kind, parsed, notes)
    refused += [*refusals, *_alone(parsed, draft.options)]
    for note in [*notes, *parsed.notes]:
        draft.note(note.text, note.origin, note.name)
    for word in words:
        if word.reason not in ("", CALLERS):
            draft.note(word.reason, word.origin, "value-unknown")
    return structs.replace(
        draft.launch(kind, words),
        options=parsed.options,
        model=model.text if model and not model.reason else "",
        model_origin=model.origin if model else "",
        refused=tuple(refused) if judged is not None else (),
        options_from=judged.source if judged is not None else "",
    )


def _model(draft: Draft, kind: Kind, parsed: Parsed, notes: list[Note]) -> tuple[Word | None, list[Refused]]:
    """Return the model, and the words that nothing takes."""
    options = draft.options
    given = parsed.options.get("--model")
    named = Word(given.values[-1], given.origin, given.reason) if given and given.values else None
    first = parsed.operands[0] if parsed.operands else None
    # A word behind one that is not known may be the value of an option that came out of it.
    at = next((at for at, word in enumerate(parsed.operands) if word.reason), len(parsed.operands))
    refused = [_unexpected(word) for word in parsed.operands[1:at]]
    if kind == "vllm-serve":
        typed = given is not None and (not draft.config or not given.origin.startswith(f"{draft.config}:"))
        if given and typed and options is not None and options.has["model-refused"]:
            expects = "the model as the first word behind `serve`"
            refused.append(Refused("--model", given.spelled, given.origin, "values", expects=expects))
        if given and typed and first is not None and options is not None and options.has["model-moved"]:
            expects = f"no {given.spelled} {given.values[-1] if given.values else ''} beside {first.text}"
            refused.append(Refused("--model", given.spelled, given.origin, "values", expects=expects))
        return first or named, refused
    if first is not None:
        text = f"this server takes no notice of {first.text!r}: it reads the model from --model alone"
        notes.append(Note(text, first.origin, "model-ignored"))
    return named, refused


def _alone(parsed: Parsed, options: Options | None) -> list[Refused]:
    """Return the options that are refused without another one, which is not given."""
    found: list[Refused] = []
    for name, other in options.needs if options is not None and not parsed.partial else ():
        given = parsed.options.get(name)
        assert options is not None
        if given is None or given.values != ("True",) or options.default(other) not in (None, False, ""):
            continue
        beside = parsed.options.get(other)
        if beside is None or beside.values in (("False",), ("",)):
            found.append(Refused(name, given.spelled, given.origin, "alone", expects=f"{other} beside it"))
    return found


def _unexpected(word: Word) -> Refused:
    return Refused(word.text, word.text, word.origin, "values", expects="no further word without an option")


# --- the parser ---------------------------------------------------------------------------------------------


def parse(words: list[Word], options: Options | None, operand: bool = True) -> Parsed:
    """Return the options by their full names. Never raises: what will not be taken is in `refused`.

    `operand`: the first word without an option is the model. Where another one is not known, it may be any
    option: what was given in front of it may be given anew there, and is not known either.
    """
    found = Parsed({}, [], [], [])
    words = list(_normal(words, options, found))
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word.text == "--":
            found.operands += words[at:]
            break
        string, value = _option_string(word, options)
        if not string:
            if word.reason and (word.many or found.operands or not operand):
                _more(found, word)
            found.operands.append(word)
            continue
        option, full, refused = _looked_up(string, word, options)
        if option is None:
            found.refused += [refused] if refused else []
            if value is None and at < len(words) and not _option_string(words[at], options)[0]:
                if words[at].many:
                    _more(found, words[at])
                at += 1
            continue
        if option.nargs == 0:
            _turned(found, option, full, string, value, word)
            continue
        taken, at = (
            ([word.with_text(value)], at) if value is not None else _values(option, words, at, options)
        )
        _given(found, option, string, word, taken)
    return found


def _more(found: Parsed, word: Word) -> None:
    """Note that a word may hold options which nobody knows: it counts over those in front of it.

    Those that whoever runs a script may add to it leave the script's own as they are: these are judged.
    """
    found.partial = found.partial or f"what stands at {word.origin} may hold more options: {word.reason}"
    if word.reason == CALLERS:
        return
    for name, given in found.options.items():
        found.options[name] = Given((), given.origin, given.spelled, given.reason or found.partial)
    found.refused = [each for each in found.refused if each.why != "range"]


def _normal(words: list[Word], options: Options | None, found: Parsed) -> Iterator[Word]:
    """Yield the words with dashes for underscores; dotted options come last, as one JSON text each."""
    has = options.has if options is not None else {"level": True, "dotted": True}
    dotted: dict[str, list[tuple[Word, str, str]]] = {}
    pending = iter(words)
    for word in pending:
        text = word.text
        if text.startswith("-O") and text != "-O" and text[2] != "." and _leveled(has):
            level = word.with_text(text[3:] if text[2] == "=" else text[2:])
            if has.get("level-dotted"):
                dotted.setdefault("-O", []).append((level, "level", level.text))
            else:
                yield word.with_text("--optimization-level")
                yield level
            continue
        if text.startswith("-O.") and has.get("level"):
            text = f"-cc{text[2:]}"
        if text.startswith("--"):
            name, equals, value = text.partition("=")
            text = _DASHED.sub(lambda match: match[0].replace("_", "-"), name, count=1) + equals + value
        match = _DOTTED.fullmatch(text.partition("=")[0]) if has.get("dotted") else None
        if match is None:
            yield word.with_text("--optimization-level" if text == "-O" and has.get("level") else text)
            continue
        value = text.partition("=")[2] if "=" in text else next(pending, Word("", word.origin)).text
        dotted.setdefault(match[1], []).append((word, match[2], value))
    yield from _joined(dotted)


def _leveled(has: Any) -> bool:
    return bool(has.get("level") or has.get("level-dotted"))


def _joined(dotted: dict[str, list[tuple[Word, str, str]]]) -> Iterator[Word]:
    for name, pieces in dotted.items():
        tree: dict[str, Any] = {}
        for _, keys, text in pieces:
            listed = keys.endswith("+")
            value = text.split(",") if listed else _json(text)
            _planted(tree, keys.removesuffix("+").split(".")[:20], value)
        yield pieces[0][0].with_text(name)
        yield pieces[0][0].with_text(json.dumps(tree))


def _planted(tree: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = tree.setdefault(key, {})
        if not isinstance(inner, dict):
            inner = tree[key] = {}
        tree = inner
    if isinstance(value, list) and isinstance(tree.get(keys[-1]), list):
        value = tree[keys[-1]] + value
    tree[keys[-1]] = value


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _option_string(word: Word, options: Options | None) -> tuple[str, str | None]:
    """Return the option string of a word and the value behind its "=", or "" where it is no option."""
    text = word.text
    if len(text) < 2 or not text.startswith("-") or (word.reason and "=" not in text):
        return "", None  # what comes about when it runs may be anything: it is no option that is known
    if options is not None and options.get(text) is not None:
        return text, None
    name, equals, value = text.partition("=")
    if equals and (options is None or options.get(name) is not None):
        return name, value
    if _NUMBER.fullmatch(text) or " " in name:
        return "", None
    return (name, value) if equals else (text, None)


def _looked_up(string: str, word: Word, options: Options | None) -> tuple[Option | None, str, Refused | None]:
    """Return the option that a string stands for, and the string in full; or why there is none."""
    if options is None:
        return _expected(string), string, None
    if (option := options.get(string)) is not None:
        return option, string, None
    if string in ("-h", "--help"):
        return None, string, None
    begun = sorted(name for name in options if name.startswith(string)) if string.startswith("--") else []
    if len(begun) == 1:
        return options.get(begun[0]), begun[0], None
    if begun:
        return None, string, Refused(string, word.text, word.origin, "ambiguous", choices=tuple(begun))
    near = nearest_name(string, options)
    return None, string, Refused(string, word.text, word.origin, "unknown", nearest=near)


def _expected(string: str) -> Option:
    """Return what an option of an unknown vLLM is like, by its name."""
    from cudadoctor.launch.options import Option

    short = {"-tp": "--tensor-parallel-size", "-pp": "--pipeline-parallel-size", "-q": "--quantization",
             "-dp": "--data-parallel-size", "-cc": "--compilation-config"}  # fmt: skip
    name = short.get(string, string)
    if _ON.match(name) or name in _SWITCHES:
        off = name.startswith("--no-")
        positive = f"--{name[5:]}" if off else name
        return Option(positive, (positive, name), (name,) if off else (), 0)
    return Option(name, (name, string), nargs="+" if name in _MANY else None)


def _turned(found: Parsed, option: Option, full: str, spelled: str, value: str | None, word: Word) -> None:
    """Note a flag that is turned on or off."""
    if value is not None:
        expects = "no value: its name alone turns it on"
        found.refused.append(Refused(option.name, word.text, word.origin, "values", value, expects=expects))
    text = "False" if full in option.off else "True"
    found.options[option.name] = Given((text,), word.origin, spelled)


def _values(option: Option, words: list[Word], at: int, options: Options | None) -> tuple[list[Word], int]:
    """Return the words that an option takes, and where the next one begins."""
    most = option.nargs if isinstance(option.nargs, int) else len(words) if option.nargs in ("+", "*") else 1
    end = at
    while end < len(words) and end - at < most:
        if words[end].text == "--" or _option_string(words[end], options)[0]:
            break
        end += 1
    return words[at:end], end


def _given(found: Parsed, option: Option, spelled: str, word: Word, taken: list[Word]) -> None:
    """Note an option with its values; what is not known is not judged."""
    if not taken and option.nargs not in ("?", "*"):
        found.refused.append(Refused(option.name, spelled, word.origin, "values", expects="a value"))
        return
    reason = next((each.reason for each in taken if each.reason), "")
    if option.nargs in ("+", "*") and (several := next((each for each in taken if each.many), None)):
        _more(found, several)
    values = texts(taken) or ("True",)
    before = found.options.pop(option.name, None)
    if option.appends and before is not None:
        values = before.values + values
    found.options[option.name] = Given(() if reason else values, word.origin, spelled, reason)
    if not reason:
        found.refused += filter(None, (judged(option, spelled, each) for each in taken))


# --- what is refused ----------------------------------------------------------------------------------------


def judged(option: Option, spelled: str, word: Word) -> Refused | None:
    """Return why an option will not take a value, or None where it does or where that is not known."""
    text = word.text
    nothing = text in ("None", "")
    if nothing and option.empty and (option.choices is None or not option.checked):
        return None
    if option.choices is not None and (text not in option.choices or nothing):
        if option.kind == "unknown" and "," in text:
            return None
        return _refused(
            option,
            spelled,
            word,
            "choice",
            nearest=_closest(text, option.choices, _NEAR_VALUE),
            choices=option.choices,
        )
    if (expects := _expects(option.kind, text)) != "":
        return _refused(option, spelled, word, "number", expects=expects)
    if (expects := _expects_json(option, text)) != "":
        return _refused(option, spelled, word, "json", expects=expects)
    if option.kind in ("int", "float") and not _within(option.limits, text):
        signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
        expects = ", ".join(f"{signs[name]} {limit:g}" for name, limit in option.limits.items())
        return _refused(option, spelled, word, "range", expects=expects)
    return None


_Why = Literal["choice", "number", "range", "json"]


def _refused(
    option: Option,
    spelled: str,
    word: Word,
    why: _Why,
    *,
    nearest: str = "",
    choices: tuple[str, ...] = (),
    expects: str = "",
) -> Refused:
    return Refused(option.name, spelled, word.origin, why, word.text, nearest, choices, expects)


def _expects(kind: str, text: str) -> str:
    """Return what a number must look like where the text is none; "" where it is one."""
    bare = text.strip().replace("_", "")
    if kind == "float":
        try:
            float(bare)
        except ValueError:
            return "a number"
    whole = bool(re.fullmatch(r"[+-]?\d+", bare))
    if kind == "int" and not whole:
        return "a whole number"
    if kind in ("human", "human-or-auto") and not whole and not _HUMAN.fullmatch(bare):
        auto = kind == "human-or-auto"
        return "" if auto and bare == "auto" else "a whole number, or 32k, or 32K"
    return ""


def _expects_json(option: Option, text: str) -> str:
    """Return what is wanted where a text is not the JSON that an option takes; "" where it is."""
    if option.kind == "lora":
        if not text or ("=" in text and "," not in text):
            return ""
        return "" if isinstance(_json(text), dict) else "name=path, or JSON in quotes of the shell"
    if option.kind not in ("json", "object") or (not option.strict and text.lstrip()[:1] not in ("{", "[")):
        return ""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return "JSON, in quotes of the shell"
    return "" if isinstance(found, dict) or option.kind == "json" else "a JSON object, in quotes of the shell"


def _within(limits: dict[str, float], text: str) -> bool:
    number = float(text.strip().replace("_", ""))  # of a whole number without an end: infinity
    tests = {"gt": number.__gt__, "ge": number.__ge__, "lt": number.__lt__, "le": number.__le__}
    return all(tests[name](limit) for name, limit in limits.items())


def nearest_name(string: str, options: Options) -> str:
    """Return the valid option that is meant, or "": the same flag turned round, or nearly so written."""
    for ours, theirs in (("--disable-", "--no-enable-"), ("--enable-", "--no-disable-")):
        turned = f"{theirs}{string[len(ours) :]}" if string.startswith(ours) else ""
        if turned and options.get(turned) is not None:
            return turned
    return _closest(string, tuple(options))


def _closest(text: str, known: tuple[str, ...], near: float = _NEAR) -> str:
    import difflib

    return next(iter(difflib.get_close_matches(text, known, 1, near)), "")
