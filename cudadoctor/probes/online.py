"""What the hub says of a model (`--online`): its config and index, asked for in a process of its own.

Nothing is written outside a temporary folder, weights are never fetched, and all of it has one time limit,
well below what the engine gives a section: that nobody answered is an answer too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from cudadoctor.facts.model import HubAnswer, Weights
from cudadoctor.host import Ran
from cudadoctor.probes.credentials import HUB, Sent, foreign, token_for
from cudadoctor.probes.safetensors import LARGEST_BYTES, read_index
from cudadoctor.probes.surroundings import Surroundings, public
from cudadoctor.secrets import SECRET

TOTAL_S = 12.0  #: for all of it
_ANSWER_S = 5.0  #: for one answer of the server
_OWN_SHARE = 0.8  #: of all of it, after which the child ends by itself and tells what it has
_LIMIT_BYTES = 64 << 20  #: for one file
_SCRIPT = f"{__file__.rpartition('/probes/')[0]}/child/hub.py"
_INDEX, _BESIDE = "model.safetensors.index.json", "hf_quant_config.json"


class Answer(Struct, frozen=True):
    """What came back; `config` is a text where it cannot be used: why."""

    asked: HubAnswer
    config: dict[str, Any] | str | None = None
    source: str = ""  #: the address that the config is from
    beside: dict[str, Any] | None = None  #: hf_quant_config.json
    weights: Weights | None = None


def ask(seen: Surroundings, name: str, revision: str, *, timeout_s: float = TOTAL_S) -> Answer:
    """Return what the hub answers of a model's name; it is not asked where the launch forbids it.

    The launch in `seen` must be one with its secrets, which the answer has none of.
    """
    endpoint = (seen.get("HF_ENDPOINT") or HUB).rstrip("/")
    if unknown := seen.launch.doubtful.get("HF_ENDPOINT"):
        return Answer(HubAnswer("unreachable", "", message=unknown))
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if seen.true(variable):
            return Answer(HubAnswer("unreachable", public(endpoint), message=f"{variable} forbids it"))
    try:
        with seen.host.temporary({}, seen.host.environ) as folder:
            return _ask(seen, name, revision, endpoint, folder, timeout_s)
    except OSError as error:
        return Answer(
            HubAnswer(
                "unreachable", public(endpoint), message=f"no temporary folder: {error.strerror or error}"
            )
        )


def _ask(
    seen: Surroundings, name: str, revision: str, endpoint: str, folder: str, timeout_s: float
) -> Answer:
    import sys

    shown = public(endpoint)
    order = {
        "path": sys.path, "name": name, "revision": revision, "endpoint": endpoint, "folder": f"{folder}/hub",
        "more": [_INDEX, _BESIDE], "timeout_s": min(_ANSWER_S, timeout_s), "limit_bytes": _LIMIT_BYTES,
        "total_s": timeout_s * _OWN_SHARE,
    }  # fmt: skip
    token = token_for(seen, endpoint)
    argv = [sys.executable, "-I", "-B", _SCRIPT, msgspec.json.encode(order).decode()]
    ran = seen.host.run(argv, _environ(seen, endpoint, folder, token), timeout_s=timeout_s)
    try:
        told = msgspec.json.decode(ran.stdout.strip().rpartition("\n")[2], type=_Told)
    except msgspec.MsgspecError:
        return Answer(
            HubAnswer(
                "unreachable" if ran.timed_out else "broken", shown, message=_end(ran, timeout_s, token)
            )
        )
    asked = HubAnswer(
        told.ended, shown, told.status, _plain(told.message, token), told.commit, token.withheld
    )
    files = {key: path for key, path in told.files.items() if path.startswith(f"{folder}/")}
    if told.ended != "found" or "config.json" not in files:
        return Answer(asked)
    return _answer(seen, asked, files, told, f"{shown}/{name}/resolve/{revision}")


class _Told(Struct):
    """What the child prints."""

    ended: Any
    status: int = 0
    message: str = ""
    commit: str = ""
    files: dict[str, str] = {}
    problems: dict[str, str] = {}
    single_bytes: int | None = None


def _answer(
    seen: Surroundings, asked: HubAnswer, files: Mapping[str, str], told: _Told, address: str
) -> Answer:
    from cudadoctor.probes.model import read_object  # which asks for this module where it may

    config = read_object(seen.host, files["config.json"])
    beside = read_object(seen.host, files[_BESIDE]) if _BESIDE in files else None
    weights = None
    if _INDEX in files:
        read = read_index(seen.host, files[_INDEX])
        if not isinstance(read, str):
            names, total = read
            weights = Weights("safetensors", total, f"{address}/{_INDEX}" if total else "", "", len(names),
                              to_come_bytes=total)  # fmt: skip
    elif told.single_bytes and told.single_bytes < LARGEST_BYTES:
        # Its header, which is not fetched, is a ten thousandth of it.
        size, source = told.single_bytes, f"the size of {address}/model.safetensors"
        weights = Weights("safetensors", size, source, "", 1, to_come_bytes=size)
    elif problem := told.problems.get(_INDEX):
        asked = msgspec.structs.replace(asked, message=f"{_INDEX}: {problem}")
    return Answer(
        asked, config, f"{address}/config.json", beside if isinstance(beside, dict) else None, weights
    )


def _environ(seen: Surroundings, endpoint: str, folder: str, token: Sent) -> dict[str, str]:
    """Return the variables of the child: those of the launch, with all that is stored in the folder."""
    names = (
        "HOME", "HF_HUB_DISABLE_IMPLICIT_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy",
        "https_proxy", "no_proxy", "ALL_PROXY", "all_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PATH", "LANG",
    )  # fmt: skip
    kept = {name: value for name in names if (value := seen.get(name)) is not None}
    if token.value:
        kept["HF_TOKEN"] = token.value
    if foreign(seen)[0]:
        kept["NETRC"] = f"{folder}/none"  # which holds passwords of the user's
    return {
        **kept, "HF_TOKEN_PATH": f"{folder}/none", "HF_HOME": f"{folder}/home",
        "HF_HUB_CACHE": f"{folder}/hub", "XDG_CACHE_HOME": folder, "HF_ENDPOINT": endpoint, "TMPDIR": folder,
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": str(int(_ANSWER_S)), "HF_HUB_ETAG_TIMEOUT": str(int(_ANSWER_S)),
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    }  # fmt: skip


def _plain(message: str, token: Sent) -> str:
    """Return what a server or a library said, without what was told to it."""
    return public(message.replace(token.value, SECRET) if token.value else message)


def _end(ran: Ran, timeout_s: float, token: Sent) -> str:
    if ran.timed_out:
        return f"no whole answer within {timeout_s:.0f} s"
    lines = [line for line in ran.stderr.splitlines() if line.strip()]
    return _plain(ran.problem or (lines[-1] if lines else f"it ended with {ran.status}"), token)[:300]
