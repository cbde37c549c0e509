"""The token that a model is asked for with (`--online`), and whether it may go where the launch sends it.

A file that is only read must not decide who gets the user's token: where it names the hub, a proxy or whom to
believe, only a token of that same file is sent. None goes over the net in clear.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from msgspec import Struct

from cudadoctor.launch.texts import COMMAND_LINE
from cudadoctor.probes.surroundings import Surroundings, public

HUB = "https://huggingface.co"
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
#: What decides where a request goes, and who is taken for the hub.
_ROUTES = (
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "SSL_CERT_FILE",
    "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
)  # fmt: skip
#: What decides which file is taken for that of the token.
_PLACES = ("HF_TOKEN_PATH", "HF_HOME", "XDG_CACHE_HOME", "HOME")
_LIKE_A_TOKEN = re.compile(r"hf_[A-Za-z0-9_]+")
_FILE_BYTES = 4096
_TELLING = 8  #: characters of a value; shorter ones stand in any other


class Sent(Struct, frozen=True):
    """The token for one request. Its value is for the request alone, never for a section."""

    value: str = ""
    withheld: str = ""  #: why one that is there is not sent


class _Token(Struct, frozen=True):
    value: str
    shown: str  #: where it is: a variable, or a file
    file: str  #: the file that holds it and was read; "": it is the user's own


def token_for(seen: Surroundings, endpoint: str) -> Sent:
    """Return the token that may go to the hub at this address; the launch must be one with its secrets."""
    unknown = next((name for name in _TOKENS if name in seen.launch.doubtful), "")
    if unknown:
        return Sent(withheld=f"{unknown} comes about only when the launch runs")
    token = _token(seen)
    if isinstance(token, Sent):
        return token
    return Sent(withheld=why) if (why := _withheld(seen, endpoint, token)) else Sent(token.value)


def foreign(seen: Surroundings) -> tuple[str, str]:
    """Return the variable that sends requests where the user's own would not go, and its file; else ""."""
    for name in ("HF_ENDPOINT", *_ROUTES):
        if file := _whence(seen, name):
            return name, file
    return "", ""


def _withheld(seen: Surroundings, endpoint: str, token: _Token) -> str:
    """Return why a token is not sent, "" where it may be."""
    for name in ("HF_ENDPOINT", *_ROUTES):
        file = _whence(seen, name)
        if file and file != token.file:
            whose = f"of {token.file}" if token.file else f"in {token.shown}"
            return f"the token {whose} is not sent where {name} in {file} leads"
    address = urlsplit(endpoint)
    if address.scheme != "https" and not _loops_back(address.hostname or ""):
        return f"no token is sent over plain http to {public(endpoint)}"
    return ""


def _loops_back(host: str) -> bool:
    return host in ("localhost", "::1") or re.fullmatch(r"127(?:\.\d{1,3}){3}", host) is not None


def _token(seen: Surroundings) -> _Token | Sent:
    """Return the token as huggingface_hub would find it; Sent where there is none to send."""
    if seen.true("HF_HUB_DISABLE_IMPLICIT_TOKEN"):
        return Sent()
    for name in _TOKENS:
        if value := seen.get(name):
            if value.strip():
                return _Token(value.strip(), name, _whence(seen, name))
            break  # a blank one keeps it from the next
    path = seen.token_file()
    try:
        content = seen.host.head(path, _FILE_BYTES).decode("utf-8", "replace").strip() if path else ""
    except OSError:
        return Sent()
    if not content:
        return Sent()
    chosen = seen.contained or any(_whence(seen, name) for name in _PLACES)
    if chosen and _LIKE_A_TOKEN.fullmatch(content) is None:
        return Sent(withheld=f"{path}, which the launch names, holds nothing that looks like a token")
    return _Token("".join(content.splitlines()), path, "")


def _whence(seen: Surroundings, name: str) -> str:
    """Return the file that says what is in a variable; "" where it is the user who does.

    It is the user who types a command, and whose own variables a file may hand on.
    """
    held = seen.launch.variables.get(name)
    if held is None or held.origin == COMMAND_LINE:
        return ""
    own = seen.host.environ
    if name in _TOKENS:
        if any(
            value == held.value or (len(value) >= _TELLING and value in held.value) for value in own.values()
        ):
            return ""
    elif held.value == own.get(name) or (name == "HF_ENDPOINT" and held.value.rstrip("/") in ("", HUB)):
        return ""
    beside = next((each for each in seen.launch.nearby.values() if each.value == held.value), held)
    return re.sub(r":\d+$", "", beside.origin)
