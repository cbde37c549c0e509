"""Asks the hub for a model's config and index, and for nothing else, in a process of its own.

Run as a program, with one JSON object as its argument (see `probes/online.py`), and killed where it takes too
long. It prints one JSON object. huggingface_hub does the asking: its rules for tokens, redirects and mirrors
are those of a launch. What it stores goes into the folder that it is given, and no file can outgrow a limit.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

_MESSAGE = 300


def main(order: dict[str, Any]) -> dict[str, Any]:
    """Return how the asking ended, and where the files are that were fetched."""
    sys.path[:] = order["path"]
    limit = int(order["limit_bytes"])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing beyond the limit is an error, not the end
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        hub: Any = import_module("huggingface_hub")
    except ImportError as error:
        return {"ended": "not-installed", "message": str(error)[:_MESSAGE]}
    answer: dict[str, Any] = {"ended": "found", "files": {}}
    _until(float(order["total_s"]))
    try:
        return _asked(hub, order, answer)
    except _Over:
        over = f"no whole answer within {order['total_s']:.0f} s"
        if "config.json" in answer["files"]:
            answer.setdefault("problems", {}).update(dict.fromkeys(order["more"], over))
            return answer
        return {**answer, "ended": "unreachable", "message": over}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class _Over(BaseException):
    """The time is over. No library takes this for an error of the network, to try again."""


def _until(seconds: float) -> None:
    """Raise _Over when the time is over, also amid an answer that comes byte by byte."""

    def end(*_: object) -> None:
        raise _Over

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _asked(hub: Any, order: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """Put into the answer what comes, as it comes."""
    try:
        _described(hub, order, "config.json")  # once: what fetches tries again and again where nobody answers
        config = _fetch(hub, order, "config.json")
    except Exception as error:
        return {**answer, **_told(error)}
    answer["files"]["config.json"] = config
    answer["commit"] = config.rpartition("/snapshots/")[2].partition("/")[0]
    for name in order["more"]:
        try:
            answer["files"][name] = _fetch(hub, order, name)
        except Exception as error:
            told = _told(error)
            if told["ended"] != "no-config":
                answer.setdefault("problems", {})[name] = told["message"]
    if not any(name.endswith(".index.json") for name in answer["files"]):
        answer["single_bytes"] = _size(hub, order, "model.safetensors")
    return answer


def _fetch(hub: Any, order: dict[str, Any], name: str) -> str:
    kwargs = {"revision": order["revision"], "endpoint": order["endpoint"], "cache_dir": order["folder"]}
    return str(hub.hf_hub_download(order["name"], name, **kwargs, etag_timeout=order["timeout_s"]))


def _size(hub: Any, order: dict[str, Any], name: str) -> int | None:
    """Return the size of a file that is not fetched, None where there is none."""
    try:
        size = _described(hub, order, name).size
    except Exception:
        return None
    return size if isinstance(size, int) and size > 0 else None


def _described(hub: Any, order: dict[str, Any], name: str) -> Any:
    """Return what the hub says of a file; raises what huggingface_hub raises where there is none."""
    url = hub.hf_hub_url(order["name"], name, revision=order["revision"], endpoint=order["endpoint"])
    return hub.get_hf_file_metadata(url, timeout=order["timeout_s"])


def _told(error: BaseException) -> dict[str, Any]:
    """Return what an error of huggingface_hub, or one that it hides, says of the repository."""
    chain = list(_chain(error))
    kinds = {each.__name__ for one in chain for each in type(one).__mro__}
    status = next((code for one in chain if (code := _status(one))), 0)
    message = next((text for one in chain if (text := _message(one))), "") or str(chain[-1]).strip()
    return {"ended": _ended(kinds, status), "status": status, "message": " ".join(message.split())[:_MESSAGE]}


def _ended(kinds: set[str], status: int) -> str:
    if "GatedRepoError" in kinds:
        return "gated"
    if "RevisionNotFoundError" in kinds:
        return "no-revision"
    if status in (401, 403):
        return "refused"
    if "RepositoryNotFoundError" in kinds:
        return "absent"
    if status == 404 or "RemoteEntryNotFoundError" in kinds:
        return "no-config"
    if status >= 500 or status == 429:
        return "unreachable"
    if status or "FileMetadataError" in kinds:
        return "broken"
    unreachable = ("ConnectionError", "TimeoutError", "Timeout", "TransportError", "OfflineModeIsEnabled")
    return "unreachable" if kinds.intersection(unreachable) else "broken"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(8):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int:
    status = getattr(getattr(error, "response", None), "status_code", 0)
    return status if isinstance(status, int) else 0


def _message(error: BaseException) -> str:
    headers = getattr(getattr(error, "response", None), "headers", None)
    return str(headers.get("X-Error-Message") or "") if headers is not None else ""


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))  # noqa: T201
