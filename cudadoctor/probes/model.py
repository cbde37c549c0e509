"""The model that a launch names: where it is, what its config says, and whether its weights are whole.

Things are looked for where huggingface_hub 0.36.2 (constants.py, file_download.py, utils/_auth.py) and vLLM
0.12.0 (transformers_utils/config.py, model_loader/weight_utils.py) do, both read 2026-11-21: the config in
the hub's cache whatever `--download-dir` says, the weights in that folder, unless downloads are forbidden.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import Any, Literal, cast

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from cudadoctor.facts import Download, Environ, Machine, Packages
from cudadoctor.facts.launch import Launch, Mount
from cudadoctor.facts.model import Flaw, Model, Room, Token
from cudadoctor.host import Host, NotRegular, TooLarge
from cudadoctor.probes import quantization
from cudadoctor.probes.architectures import look, named, plugins
from cudadoctor.probes.safetensors import survey
from cudadoctor.probes.surroundings import Surroundings, public
from cudadoctor.probes.target import Request
from cudadoctor.secrets import SECRET

_CONFIG_BYTES = 8 << 20
_DIGITS = 24  #: longer numbers no config has; they would cost their square to read
#: Names of classes, which a classifier has by the thousand and nothing here needs.
_LABELS = ("id2label", "label2id")
_NAME = re.compile(r"(?:\b[\w\-.]+\b/)?\b[\w\-.]{1,96}\b")
_INCOMPLETE = re.compile(r"([0-9a-f]+)(?:\.[0-9a-zA-Z_-]+)?\.incomplete")
#: Files of a tokenizer, or with code that makes one (the names that models on the hub have, 2026-11-21).
_TOKENIZER = re.compile(r"(?i)tokeniz|vocab|tekken\.json|tiktoken|merges\.txt|.*\.model$|.*\.tiktoken$")
#: Formats whose weights are files of the folder; the others are told apart by extensions of their own.
_FORMATS = (
    "auto", "hf", "safetensors", "fastsafetensors", "mistral", "pt", "npcache", "bitsandbytes",
)  # fmt: skip
_SIMILAR = 0.7
#: vLLM fetches weights and JSON alone; `hf download` and git fetch these too.
_NEEDLESS = (".gitattributes", "README.md")
_PREFIX = "models--"
_BESIDE = 500  #: names of a folder that are looked at for what may have been meant


def probe(
    host: Host,
    request: Request,
    launch: Launch,
    environ: Environ,
    packages: Packages,
    machine: Machine,
) -> Model:
    """Return what can be told of the launch's model; where it was asked for, the hub is asked as well."""
    online = request.launch is not None and request.launch.online
    if not launch.model:
        return Model("", "none", reason="the launch names no model")
    seen = Surroundings(host, launch, environ, machine)
    where = _find(seen)
    model = Model(
        launch.model,
        where.state,
        where.reason,
        where.folder,
        where.source,
        where.cache,
        where.weights_cache,
        launch.text("--revision") or "",
        where.commit,
        token=_token(seen),
        offline=_offline(seen),
        endpoint=public(seen.get("HF_ENDPOINT") or ""),
        incomplete=where.incomplete,
        notes=where.notes,
    )
    if where.folder:
        model = _read(seen, model, where)
        model = replace(model, similar=tuple(_instead(seen, model)))
    elif model.state == "absent" and where.cache:
        model = replace(model, similar=tuple(_similar(host, where.cache, launch.model)))
    elif model.state == "absent" and "/" in launch.model:
        model = replace(model, similar=tuple(_beside(seen, launch.model)))
    if online and where.repository and model.config is None:
        model = _asked(_with_secrets(seen, request), model)
    return _judged(seen, model, packages)


def _read(seen: Surroundings, model: Model, where: _Where) -> Model:
    """Return the model with what its files say."""
    host, folder = seen.host, where.folder
    names = frozenset(_names(host, folder))
    model, config = _config(host, model, folder, names)
    load_format = seen.launch.text("--load-format") or "auto"
    notes = list(model.notes)
    weights, looked = None, ""
    if load_format not in _FORMATS:
        notes.append(f"weights of the format {load_format!r} are not looked at")
    elif where.weights:
        looked = "" if _closed(host, where.weights) else where.weights
        weights = survey(host, where.weights, "auto" if load_format == "bitsandbytes" else load_format)
    beside = read_object(host, f"{folder}/hf_quant_config.json") if "hf_quant_config.json" in names else None
    stated = quantization.stated(config, beside if isinstance(beside, dict) else None) if config else None
    return replace(
        model,
        weights=weights,
        weights_path=looked,
        whole=any(name in names for name in _NEEDLESS),
        quantization=stated,
        tokenizer=any(_TOKENIZER.match(name) for name in names),
        generation_config="generation_config.json" in names,
        notes=tuple(notes),
    )


def _judged(seen: Surroundings, model: Model, packages: Packages) -> Model:
    """Return the model with what the installed vLLM makes of it, and the room for what is still to come."""
    vllm = None if seen.contained else packages.find("vllm")
    methods, beside = None, cast(tuple[str, ...], ())
    asked = (seen.launch.text("--quantization") or "").lower()
    stated = model.quantization.method if model.quantization else ""
    if vllm is not None and (asked or stated):
        methods = quantization.methods(seen.host, vllm.location, filter(None, (asked, stated)))
        if any(name and name not in methods.names for name in (asked, stated)):
            methods = replace(methods, doubt=plugins(seen.host, packages))
        wanted = tuple(name for files in methods.files.values() for name in files)
        names = _names(seen.host, model.path) if wanted and model.path else ()
        beside = tuple(name for name in names if name.endswith(wanted))
    architecture = None
    if vllm is not None and model.config is not None:
        architecture = look(seen.host, packages, model.config)
    return replace(
        model,
        methods=methods,
        quantization_files=beside,
        architecture=architecture,
        room=_room(seen, model) if _to_come(seen, model) or model.weights_cache else None,
    )


# --- where it is --------------------------------------------------------------------------------------------


class _Where(Struct, frozen=True):
    state: Literal["none", "folder", "cached", "absent", "gguf", "elsewhere"]
    reason: str = ""
    folder: str = ""  #: with config.json
    source: str = ""
    weights: str = ""  #: the folder with the weights, where that is another one
    cache: str = ""
    weights_cache: str = ""
    commit: str = ""
    repository: bool = False  #: the name is one that the hub could have
    incomplete: tuple[Download, ...] = ()
    notes: tuple[str, ...] = ()


def _find(seen: Surroundings) -> _Where:
    """Return where the model is, in the order in which vLLM looks."""
    name = seen.launch.model
    if re.match(r"(?i)(s3|gs|az)://", name):
        return _Where("elsewhere", f"{name.partition('://')[0]}:// is not looked into")
    path = seen.outside(name)
    kind = seen.host.kind(path) if path else ""
    if kind == "directory":
        return _Where("folder", folder=path.rstrip("/") or "/", source="the launch", weights=path)
    if kind == "file" or name.endswith(".gguf"):
        return _single(seen, name, path, kind)
    if name.startswith(("/", "./", "../", "~")) or name.count("/") > 1:
        if seen.contained and not path:
            return _Where("elsewhere", f"{name} is in the container, and no mount shows it")
        return _Where("absent", f"no folder is at {path or name}, and no name on the hub looks like that")
    if (seen.get("VLLM_USE_MODELSCOPE") or "").lower() == "true":
        return _Where("elsewhere", "VLLM_USE_MODELSCOPE is set: ModelScope's cache is not looked into")
    if "/" in name and ":" in name:
        return _Where("gguf", "one file of GGUF weights in a repository: not modelled")
    if not _NAME.fullmatch(name) or "--" in name or ".." in name or name.endswith(".git"):
        return _Where(
            "absent", f"neither a folder nor a name that a model on the hub can have: {name[:200]!r}"
        )
    return _cached(seen, name)


def _single(seen: Surroundings, name: str, path: str, kind: str) -> _Where:
    if kind != "file":
        return _Where("absent", f"no file is at {path or name}")
    try:
        gguf = name.endswith(".gguf") or seen.host.head(path, 4) == b"GGUF"
    except OSError as error:
        return _Where("absent", f"{path}: {error.strerror or error}")
    if gguf:
        return _Where("gguf", "a single file of GGUF weights: not modelled", source="the launch")
    return _Where("absent", f"{path} is a file, and no GGUF weights; a model is a folder")


def hub_cache(seen: Surroundings) -> tuple[str, str]:
    """Return the folder of cached models as the program spells it, and which variable says so."""
    for variable, below in (("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "/hub")):
        if (value := seen.get(variable)) is not None:
            return seen.absolute(seen.expanded(value)).rstrip("/") + below, variable
    return f"{seen.hf_home()}/hub", "the default"


def _cached(seen: Surroundings, name: str) -> _Where:
    """Return the snapshot of a model in the hub's cache, and the one that its weights are in."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"):
        if unknown := seen.launch.doubtful.get(variable):
            return _Where("elsewhere", unknown, repository=True)
    told, source = hub_cache(seen)
    cache = seen.outside(told) if seen.home or source != "the default" else ""
    if not cache:
        reason = f"the cache is in the container ({told}), and no mount shows it"
        return _Where("elsewhere", reason, repository=True)
    given = seen.launch.text("--download-dir")
    apart = seen.outside(given) if given and not _offline(seen) else ""
    revision = seen.launch.text("--revision") or "main"
    commit, folder, why = _snapshot(seen.host, cache, name, revision)
    weights = folder
    incomplete = list(_downloads(seen.host, cache, name))
    notes = []
    if given and not apart and not _offline(seen):
        weights = ""
        notes.append(f"the weights are kept in {given}, which no mount shows")
    if apart:
        weights = _snapshot(seen.host, apart, name, revision)[1]
        incomplete += _downloads(seen.host, apart, name)
        if weights and not _has_config(seen.host, folder) and _has_config(seen.host, weights):
            notes.append(f"config.json is that of --download-dir; vLLM looks for it in {cache}")
            folder, source = weights, "--download-dir"
    state: Literal["cached", "absent"] = "cached" if _has_config(seen.host, folder) else "absent"
    return _Where(
        state, "" if state == "cached" else why or f"{folder} has no config.json",
        folder if state == "cached" else "", source, weights, cache, apart, commit, True,
        tuple(incomplete), tuple(notes),
    )  # fmt: skip


def _snapshot(host: Host, cache: str, name: str, revision: str) -> tuple[str, str, str]:
    """Return commit and folder of a revision, or "" and why there is none."""
    repository = f"{cache}/models--{name.replace('/', '--')}"
    if ".." in revision.split("/") or "\0" in revision:
        return "", "", f"{revision!r} can be no revision"
    if not host.kind(repository):
        return "", "", _closed(host, cache) or f"{cache} has no {repository.rpartition('/')[2]}"
    commit = revision
    try:
        commit = host.read(f"{repository}/refs/{revision}", 4096).decode("utf-8", "replace")
    except PermissionError:
        return "", "", f"{repository}/refs/{revision} may not be read"
    except OSError:
        pass
    folder = f"{repository}/snapshots/{commit}"
    if "/" in commit or not commit or host.kind(folder) != "directory":
        return (
            "",
            "",
            _closed(host, f"{repository}/snapshots") or f"{repository} has no snapshot of {revision}",
        )
    return commit, folder, ""


def _closed(host: Host, folder: str) -> str:
    """Return that a folder may not be looked into, "" where it may or is not there."""
    try:
        host.list(folder)
    except PermissionError:
        return f"{folder} may not be looked into"
    except OSError:
        pass
    return ""


def _has_config(host: Host, folder: str) -> bool:
    return bool(folder) and any(host.kind(f"{folder}/{name}") for name in ("config.json", "params.json"))


def _downloads(host: Host, cache: str, name: str) -> Iterator[Download]:
    """Yield the files of a model that are on their way, or were when it was broken off."""
    repository = f"models--{name.replace('/', '--')}"
    blobs = _names(host, f"{cache}/{repository}/blobs")
    whole = frozenset(blobs)
    for blob in blobs:
        found = _INCOMPLETE.fullmatch(blob)
        if found is None or found[1] in whole:
            continue
        path = f"{cache}/{repository}/blobs/{blob}"
        try:
            size_bytes = host.size(path)
        except OSError:
            continue
        yield Download(path, size_bytes, host.locked(f"{cache}/.locks/{repository}/{found[1]}.lock"))


def _similar(host: Host, cache: str, name: str) -> list[str]:
    """Return the cached models whose names look like this one."""
    import difflib

    cached = [
        each[len(_PREFIX) :].replace("--", "/") for each in _names(host, cache) if each.startswith(_PREFIX)
    ]
    lower = {each.lower(): each for each in cached[:2000]}
    same = [each for key, each in lower.items() if key.rpartition("/")[2] == name.lower().rpartition("/")[2]]
    close = difflib.get_close_matches(name.lower(), lower, 3, _SIMILAR)
    return list(dict.fromkeys([*same, *(lower[each] for each in close)]))[:3]


def _instead(seen: Surroundings, model: Model) -> list[str]:
    """Return what may have been meant: folders below one without a config, or weights quantised as asked."""
    if model.config_flaw is not None and model.config_flaw.kind == "missing":
        inner = ("", "snapshots") if seen.host.kind(f"{model.path}/snapshots") else ("",)
        return [path for below in inner for path in _models(seen, posixpath.join(model.name, below), "")][:3]
    asked = (seen.launch.text("--quantization") or "").partition("_")[0].lower()
    if not asked or model.config is None or model.quantization is not None:
        return []
    if model.state == "folder":
        parent, name = posixpath.split(model.name.rstrip("/"))
        return [path for path in _models(seen, parent, name) if asked in posixpath.basename(path).lower()][:3]
    near = _similar(seen.host, model.cache, f"{model.name}-{asked}")
    return [each for each in near if each != model.name and asked in each.lower()]


def _beside(seen: Surroundings, path: str) -> list[str]:
    """Return the folders with a model that lie where a path leads to nothing, and are called much like it."""
    import difflib

    parent, name = posixpath.split(path.rstrip("/"))
    there = {posixpath.basename(each): each for each in _models(seen, parent, "")} if name else {}
    return [there[each] for each in difflib.get_close_matches(name, there, 3, _SIMILAR)]


def _models(seen: Surroundings, folder: str, begins: str) -> list[str]:
    """Return the models in a folder, as the program would spell them."""
    names = [name for name in _names(seen.host, seen.outside(folder or ".")) if name.startswith(begins)]
    paths = (posixpath.join(folder, name) for name in names[:_BESIDE])
    return [path for path in paths if _has_config(seen.host, seen.outside(path))]


def _names(host: Host, folder: str) -> list[str]:
    try:
        return host.list(folder)
    except OSError:
        return []


# --- what it says -------------------------------------------------------------------------------------------


def _config(
    host: Host, model: Model, folder: str, names: frozenset[str]
) -> tuple[Model, dict[str, Any] | None]:
    """Return the model with its config, and the config whole; or with the reason why there is none."""
    path = f"{folder}/config.json"
    if "config.json" in names and "params.json" in names:
        note = "params.json is there too, which vLLM may read instead of config.json"
        model = replace(model, notes=(*model.notes, note), params=True)
    if "config.json" not in names and "params.json" in names:
        return replace(
            model, reason="Mistral's own params.json, without a config.json, is not modelled"
        ), None
    read = read_object(host, path)
    if isinstance(read, str):
        closed = _closed(host, folder)
        flaw = Flaw(path, "unreadable" if closed else _kind(host, path), closed or read)
        return replace(model, reason=closed or f"{path}: {read}", config_path=path, config_flaw=flaw), None
    return configured(model, read, path), read


def _kind(host: Host, path: str) -> Literal["missing", "broken-link", "unreadable", "empty", "garbled"]:
    """Return what is wrong with a file that holds no object."""
    if not host.kind(path):
        return "broken-link" if host.kind(path, follow=False) == "link" else "missing"
    try:
        return "garbled" if host.size(path) else "empty"
    except OSError:
        return "unreadable"


def configured(model: Model, config: dict[str, Any], path: str) -> Model:
    """Return the model with a config that was read, or asked for."""
    inner = config.get("text_config")
    texts = (config, inner if isinstance(inner, dict) else {})
    dtypes = (part.get(key) for part in texts for key in ("dtype", "torch_dtype"))
    return replace(
        model,
        config={key: value for key, value in config.items() if key not in _LABELS},
        config_path=path,
        architectures=named(config),
        dtype=next((each.removeprefix("torch.") for each in dtypes if isinstance(each, str)), ""),
    )


def read_object(host: Host, path: str) -> dict[str, Any] | str:
    """Return the JSON object in a file, or why there is none."""
    try:
        return decoded(host.read(path, _CONFIG_BYTES))
    except TooLarge:
        return f"larger than {_CONFIG_BYTES >> 20} MiB, which no config is"
    except NotRegular:
        return "not a regular file"
    except FileNotFoundError:
        return "a link that leads nowhere" if host.kind(path, follow=False) == "link" else "it is not there"
    except OSError as error:
        return error.strerror or str(error)


def decoded(data: bytes) -> dict[str, Any] | str:
    """Return a JSON object as Python's own reader takes it, NaN and Infinity included; or why it does not."""
    try:
        found: object = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        read = _by_python(data)
        if isinstance(read, str):
            return read
        found = read[0]
    return cast(dict[str, Any], found) if isinstance(found, dict) else "it holds no object"


def _by_python(data: bytes) -> tuple[object] | str:
    import json

    try:
        return (json.loads(data.decode(), parse_int=_whole),)
    except UnicodeDecodeError:
        return "no JSON: not UTF-8"
    except RecursionError:
        return "no config: nested too deep"
    except ValueError as error:
        return f"no JSON: {error}"[:200]


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


# --- what it takes to get the rest --------------------------------------------------------------------------


def _offline(seen: Surroundings) -> str:
    """Return the variable that forbids downloads; an empty one leaves it to the next."""
    name = next((name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if seen.get(name)), "")
    return name if name and seen.true(name) else ""


def _token(seen: Surroundings) -> Token:
    """Return where the hub's token would come from."""
    blank, source = [], ""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if name in seen.launch.doubtful:  # it is there, and what it holds is not known
            source = name
            break
        value = seen.get(name)
        if value is not None and not value.strip():
            blank.append(name)
            if value:  # what is not empty, but blank, is taken before the next one
                break
        elif value:
            source = name
            break
    path, problem = seen.token_file(), ""
    if path and not source:
        try:
            if seen.host.head(path, 4096).strip():
                source = path
            else:
                blank.append(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            problem = error.strerror or str(error)
    return Token(source, tuple(blank), path, problem)


def _to_come(seen: Surroundings, model: Model) -> bool:
    """Return whether vLLM would have to download weights."""
    if (seen.launch.text("--load-format") or "auto") not in _FORMATS:
        return False
    if model.state == "absent":
        return bool(model.cache)
    return model.state == "cached" and (model.weights is None or model.weights.to_come_bytes != 0)


#: Whether a folder can be written, why not, and the same in words.
_Found = tuple[bool | None, Literal["", "read-only", "mounted-read-only", "refused", "made-for-root"], str]
_TAKEN: _Found = (True, "", "")
_NOT_KNOWN: _Found = (None, "", "")


def _room(seen: Surroundings, model: Model) -> Room:
    """Return what there is room for where the weights would go: at the nearest folder that exists."""
    wanted = f"{model.weights_cache or model.cache}/{_PREFIX}{model.name.replace('/', '--')}/blobs"
    folder = wanted
    while folder and not seen.host.kind(folder):
        folder = folder.rpartition("/")[0]
    folder = folder or "/"
    try:
        space = seen.host.space(folder)
    except OSError:
        return Room(folder, None, None)
    found = _NOT_KNOWN
    if space.read_only:
        found = (False, "read-only", "its file system is mounted read-only")
    elif not seen.contained:
        found = (
            _TAKEN
            if seen.host.writable(folder)
            else (False, "refused", f"this user may not write to {folder}")
        )
    elif (mount := seen.mount(_told_cache(seen, model))) is not None:
        found = _from_inside(seen, mount, folder)
    return Room(folder, space.free_bytes, *found)


def _told_cache(seen: Surroundings, model: Model) -> str:
    """Return the folder that downloads go to, as the program spells it."""
    return (seen.launch.text("--download-dir") if model.weights_cache else "") or hub_cache(seen)[0]


def _from_inside(seen: Surroundings, mount: Mount, folder: str) -> _Found:
    """Return whether the container's user may write to a folder of this machine, and why not."""
    container = seen.launch.container
    if mount.read_only:
        return False, "mounted-read-only", f"it is mounted read-only at {mount.target}"
    user, _, group = container.user.partition(":") if container is not None else ("", "", "")
    if user in ("0", "root") and container is not None and container.engine != "podman":
        return _TAKEN  # podman's root is the user that starts it
    if not user.isdecimal() or user == "0" or container is None:
        return _NOT_KNOWN  # which user it is, the image tells
    source = seen.source(mount)
    if seen.host.kind(source):
        return _for_user(seen.host, folder, int(user), group)
    if container.engine not in ("docker", "compose"):
        return _NOT_KNOWN
    return False, "made-for-root", f"{source} is not there: docker makes it for root, and the user is {user}"


def _for_user(host: Host, folder: str, user: int, group: str) -> _Found:
    """Return whether a user with this number may put files into a folder, and why not."""
    try:
        owner, of_group, mode = host.rights(folder)
    except OSError:
        return _NOT_KNOWN
    if owner == user:
        allowed = mode & 0o300 == 0o300
    elif group.isdecimal() and int(group) == of_group:
        allowed = mode & 0o030 == 0o030
    else:
        allowed = mode & 0o003 == 0o003
        if not allowed and mode & 0o020:  # what other groups the user is in, the image tells
            return _NOT_KNOWN
    why = f"{folder} belongs to user {owner} (mode {mode:04o}), and the container's user is {user}"
    return _TAKEN if allowed else (False, "refused", why)


def _with_secrets(seen: Surroundings, request: Request) -> Surroundings:
    """Return the same with the launch's own secrets, which its section has none of: the hub wants them."""
    if request.launch is None or all(each.value != SECRET for each in seen.launch.variables.values()):
        return seen
    from cudadoctor.probes.launch import read

    return seen.of(read(seen.host, request.launch))


def _asked(seen: Surroundings, model: Model) -> Model:
    """Return the model with what the hub says of it; the launch in `seen` has its secrets."""
    from cudadoctor.probes.online import ask  # only where somebody may be asked

    answer = ask(seen, model.name, model.revision or "main")
    found = replace(model, online=answer.asked, commit=model.commit or answer.asked.commit)
    if isinstance(answer.config, str):
        return replace(found, online=replace(answer.asked, ended="broken", message=answer.config))
    if answer.config is None:
        return found
    stated = quantization.stated(answer.config, answer.beside)
    told = configured(found, answer.config, answer.source)
    return replace(told, quantization=stated, weights=answer.weights)
