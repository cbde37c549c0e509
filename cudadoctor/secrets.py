"""What is a secret by its name or its look, and where one stands in the words of a command.

Names are judged word by word: `MYSECRET`, `db_pass` and `awsSecretAccessKey` are secrets, `tokenizer`,
`max_tokens`, `bypass` and `monkey` are none. A name that only leads to one (`HF_TOKEN_PATH`) is none either.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

SECRET = "[secret]"

_WORD = r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[A-Z]+"
#: What a name is about that ends so: not the secret itself.
_ABOUT = frozenset((
    "path", "paths", "file", "files", "keyfile", "certfile", "dir", "dirs", "directory", "folder", "url",
    "uri", "host", "hostname", "port", "endpoint", "name", "names", "type", "types", "id", "ids", "index",
    "len", "length", "size", "sizes", "count", "counts", "max", "min", "limit", "limits", "threshold",
    "format", "mode", "timeout", "ttl", "sock", "socket", "only", "usage", "parallelism", "column",
    "prefix", "suffix", "policy", "config", "class", "cls", "method",
))  # fmt: skip
#: Words that say it whatever stands before them; they may also be grown together with it: MYSECRET.
_SURE = (
    "secret", "secrets", "password", "passwords", "passwd", "passw", "passphrase", "passcode", "credential",
    "credentials", "creds", "pwd", "apikey", "apikeys", "accesskey", "secretkey", "privatekey", "authtoken",
    "accesstoken", "apitoken", "hftoken",
)  # fmt: skip
_WHOLE = frozenset(("pw", "authorization", "cookie", "cookies", "dsn", "webhook"))
#: Of a key, or of several tokens: what stands before that makes it a secret.
_KEYS = frozenset((
    "api", "access", "secret", "private", "auth", "encryption", "signing", "account", "storage", "ssh",
    "master", "license", "service", "subscription", "session", "deploy", "shared", "jwt", "hmac", "aes",
    "openai", "wandb", "anthropic", "azure", "aws", "gcp", "hf", "client", "admin", "user", "server", "ssl",
    "tls",
))  # fmt: skip
_TOKENS = frozenset(("api", "auth", "access", "hf", "bearer", "refresh", "service", "deploy", "secret"))
#: Of a token: what makes it a piece of text.
_PIECES = frozenset((
    "bos", "eos", "pad", "unk", "sep", "cls", "mask", "image", "img", "video", "audio", "stop", "special",
    "start", "end", "begin", "per", "max", "min", "num", "next", "last", "first", "prev", "new", "out",
    "output", "input", "draft", "sampled", "think", "reasoning", "bot", "tool", "role", "space", "middle",
    "fim", "boi", "eoi", "placeholder", "separator", "added", "vision", "decoder", "forced", "word", "sub",
))  # fmt: skip
#: Of a pass: what makes it a step of a compiler, or an English word.
_STEPS = frozenset((
    "forward", "backward", "fusion", "post", "pre", "grad", "custom", "single", "first", "second", "last",
    "num", "by", "one", "two", "final", "inductor", "graph", "cleanup", "com", "encom", "sur", "tres",
    "under", "over", "multi", "low", "high", "band", "all",
))  # fmt: skip
_NO_KEYS = ("monkey", "donkey", "turkey", "hockey", "jockey", "whiskey", "hotkey", "lackey")
_HARMLESS = frozenset((
    "", "0", "1", "true", "false", "none", "null", "yes", "no", "on", "off", "auto", SECRET,
))  # fmt: skip
_LEAST_DIGITS = 4  #: a shorter number is a switch


def named(name: str) -> str:
    """Return "sure" or "likely" where what has this name is a secret, and "" where it is none."""
    words = [word.lower() for word in re.findall(_WORD, name)]
    if not words:
        return ""
    constant = name.isupper()
    if words[-1] in _ABOUT and "webhook" not in words and words[-2:] != ["key", "id"]:
        return ""
    if words[-2:] in (["key", "id"], ["connection", "string"]):
        return "sure"
    for at in range(len(words)) if constant else (len(words) - 1,):
        before = words[at - 1] if at else ""
        if found := _word(words[at], before, constant, at + 1 == len(words)):
            # The working folder has a name like a password's.
            return "" if name in ("PWD", "OLDPWD", "pwd") else found
    return "likely" if "webhook" in words else ""


def _word(word: str, before: str, constant: bool, last: bool) -> str:
    if word.endswith(_SURE) or word in _WHOLE:
        return "sure"
    if word in ("pass", "auth", "bearer"):
        return "sure" if last and before not in _STEPS else ""
    if word.endswith("pass") and (constant or word[:-4] in ("db", "user", "my", "root", "admin", "smtp")):
        return "sure" if word[:-4] not in _STEPS else ""
    if word in ("key", "keys"):
        return "sure" if before in _KEYS else "likely" if constant else ""
    if word == "token" or (constant and word.endswith("token")):
        return "likely" if before not in _PIECES and word[:-5] not in _PIECES else ""
    if word == "tokens":
        return "likely" if before in _TOKENS else ""
    glued = constant and last and word.endswith(("key", "pw")) and not word.endswith(_NO_KEYS)
    return "likely" if glued else ""


def is_secret(name: str, value: str) -> bool:
    """Return whether this value of a variable, an option or a key is a secret.

    A switch is none, and a number only where the name leaves no doubt: MAX_TOKENS=8192, PASSWORD=8192.
    """
    if value.lower() in _HARMLESS:
        return False
    sure = named(name)
    if sure and re.fullmatch(r"[\d.]+", value):
        return sure == "sure" and len(value) >= _LEAST_DIGITS
    return bool(sure)


_LEAST_RANDOM = 24  #: characters; of fewer too much is random by accident
_LEAST_PATH = 40  #: what has a slash and is shorter is a name in two parts, or a path


def looks_random(word: str) -> bool:
    """Return whether a word of letters, digits and `+/_-` is clearly random, as a key is and no name.

    Small letters, capitals and digits must change often, and letters seldom go on in small ones, as they do
    in words: "CompressedTensorsW8A8Fp8" is none. Digests (hex), base32 and mangled symbols have not all
    three kinds, or say what they are. Of random words of 40 letters and digits 1 in 200 is missed, of 24 1 in
    14; of the 1,721 names with all three kinds in torch 2.14.1, vLLM 0.12.0 and what they need 23 are taken
    for one.
    """
    body = word.rstrip("=")
    length, joints, slashes = len(body), body.count("_") + body.count("-"), body.count("/")
    if length < _LEAST_RANDOM or joints * 12 > length or body.startswith(("_Z", "_R", "/")):
        return False
    if slashes and (length < _LEAST_PATH or slashes * 10 > length):
        return False
    kinds = [
        "a" if each.islower() else "A" if each.isupper() else "0" if each.isdigit() else "-" for each in body
    ]
    digits = kinds.count("0")
    if not digits or digits * 3 > length or "a" not in kinds or "A" not in kinds:
        return False
    pairs = list(pairwise(kinds))
    changes = sum(one != other for one, other in pairs)
    words = sum(other == "a" and one in "aA" for one, other in pairs)
    most = 0.53 if length < _LEAST_PATH else 0.6
    return changes >= 0.38 * len(pairs) and words <= most * len(pairs)


# --- where they stand ---------------------------------------------------------------------------------------

# Compiled where they are first asked for: every report imports this, and few hold a secret.
_ASSIGNED = r"(-e|--env=|--build-arg=|--secret=|)([A-Za-z_][\w.-]*)=(.*)"
_OPTION = r"(--?[A-Za-z][\w.-]*)(?:=(.*))?"
_HEADER = r"([A-Za-z][\w-]*)(\s*:\s*(?:(?:[Bb]earer|[Bb]asic|[Tt]oken|[Dd]igest)\s+)?)(\S.*)"
#: Options of single programs whose name does not say it: USER:PASSWORD, or a password.
_OF_PROGRAMS = {
    "curl": ("-u", "--user", "-U", "--proxy-user"),
    "sshpass": ("-p",),
    "redis-cli": ("-a",),
}
_SHORTEST = 6  #: shorter ones are looked for in their own places alone: they may be a part of any word
_DEEPEST = 8


def in_words(words: Sequence[str], told: set[str], depth: int = 0) -> tuple[str, ...]:
    """Return the words of a command without its secrets, which are put into `told`."""
    program = words[0].rpartition("/")[2] if words else ""
    kept, owner = [], ""
    for word in words:
        option = re.fullmatch(_OPTION, word, re.DOTALL)
        if owner and option is None:
            kept.append(_behind(owner, word, program, told, depth))
            # Options with several values are lists of keys; of others one word is the value.
            owner = owner if owner.rpartition("-")[2] in ("key", "keys", "tokens") and word in told else ""
            continue
        owner = option[1] if option is not None and option[2] is None else ""
        kept.append(_alone(word, option, told, depth))
    return tuple(kept)


def _behind(option: str, word: str, program: str, told: set[str], depth: int) -> str:
    """Return the word behind an option."""
    if option in _OF_PROGRAMS.get(program, ()):
        user, colon, password = word.partition(":")
        told.add(password or word)
        return f"{user}:{SECRET}" if colon else SECRET
    if option.startswith("--") and is_secret(_key(option), word):
        told.add(word)
        return SECRET
    if re.fullmatch("-[a-z]*c", option):  # of a shell: a whole command
        return in_text(word, told, depth + 1)
    return _alone(word, None, told, depth)


def _alone(word: str, option: re.Match[str] | None, told: set[str], depth: int) -> str:
    """Return a word that is its own: NAME=value, --option=value, a header, JSON, or a command in one word."""
    assigned = re.fullmatch(_ASSIGNED, word, re.DOTALL)
    if assigned is not None and is_secret(assigned[2], assigned[3]):
        told.add(assigned[3])
        return word[: assigned.start(3)] + SECRET
    if option is not None and option[2] is not None:
        if is_secret(_key(option[1]), option[2]):
            told.add(option[2])
            return f"{option[1]}={SECRET}"
        return f"{option[1]}={in_text(option[2], told, depth + 1)}"
    header = re.fullmatch(_HEADER, word, re.DOTALL)
    if header is not None and not header[3].startswith("/") and is_secret(header[1], header[3]):
        told.add(header[3])
        return f"{header[1]}{header[2]}{SECRET}"
    return in_text(word, told, depth + 1)


def _key(option: str) -> str:
    """Return the last part of an option: of `--hf-overrides.token` the key that it sets."""
    return option.rpartition(".")[2]


def in_text(text: str, told: set[str], depth: int = 0) -> str:
    """Return a value without the secrets in it: JSON, or a command written as one word."""
    if depth > _DEEPEST:
        return text
    if text.lstrip()[:1] in ("{", "["):
        return _in_json(text, told, depth)
    if not re.search(r"[\s=]", text):
        return text
    import shlex

    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    found: set[str] = set()
    try:
        words = list(lexer)
    except ValueError:  # a quote without its end
        words = text.replace("'", " ").replace('"', " ").split()
    if words == [text]:
        return text
    masked = in_words(words, found, depth + 1)
    told.update(found)
    # What a quote or a backslash stands in is not found as it is written.
    return without(text, found, 1) if all(each in text for each in found) else shlex.join(masked)


def _in_json(text: str, told: set[str], depth: int) -> str:
    import json

    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return _in_quotes(text, told)
    changed = _in_value(read, "", told, depth)
    return text if changed == read else json.dumps(changed, ensure_ascii=False)


_PAIR = (
    r"""(?P<q>\\{0,8}["'])(?P<name>[\w.-]{1,80})(?P=q)\s{0,9}:\s{0,9}(?P=q)(?P<value>[^"'\\]{1,4096})(?P=q)"""
)


def _in_quotes(text: str, told: set[str]) -> str:
    """Return what is nearly JSON without its secrets."""

    def mask(found: re.Match[str]) -> str:
        if not is_secret(found["name"], found["value"]):
            return found[0]
        told.add(found["value"])
        return f"{found[0][: found.start('value') - found.start()]}{SECRET}{found['q']}"

    return re.sub(_PAIR, mask, text)


def _in_value(value: Any, name: str, told: set[str], depth: int) -> Any:
    """Return a value of JSON without the secrets in it; `name` is the key that it is under."""
    if depth > _DEEPEST:
        return SECRET if named(name) else value
    if isinstance(value, dict):
        return {key: _in_value(each, key, told, depth + 1) for key, each in value.items()}
    if isinstance(value, list):
        if value and not named(name) and all(isinstance(each, str) for each in value):
            return list(in_words(value, told, depth + 1))
        return [_in_value(each, name, told, depth + 1) for each in value]
    if isinstance(value, str):
        if not is_secret(name, value):
            return in_text(value, told, depth + 1)
        told.add(value)
        return SECRET
    if isinstance(value, int) and not isinstance(value, bool) and is_secret(name, str(value)):
        return SECRET
    return value


def without(text: str, told: set[str], shortest: int = _SHORTEST) -> str:
    """Return a text without these secrets, wherever in it they stand by themselves."""
    for secret in sorted(told, key=len, reverse=True):
        if len(secret) >= shortest and secret in text:
            text = re.sub(rf"(?<![\w-]){re.escape(secret)}(?![\w-])", SECRET, text)
    return text
