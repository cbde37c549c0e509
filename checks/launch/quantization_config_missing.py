"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Card, Launch, Methods, Model
from cudadoctor.fetching import either, wants_model
from cudadoctor.findings import Evidence, Finding, Severity
from cudadoctor.simulate.quantization import Loading, loading
from cudadoctor.tasks import without_config

_OPTION = "--quantization"
_LONGEST = 4  #: digits of a compute capability
_DTYPES = {"half": "float16", "float": "float32"}


@check
def quantization_config_missing(launch: Launch, model: Model, card: Card | None = None) -> Iterator[Finding]:
    """The quantisation that is asked for, or that the checkpoint has, is not one that vLLM can load here.

    ## What it means
    `--quantization awq` tells how to read weights that are quantised already; it does not quantise them. On a
    checkpoint that is not, vLLM stops: `Cannot find the config file for awq`. Where the checkpoint is
    quantised in another way: `Quantization method specified in the model config (gptq) does not match`. Some
    methods do quantise while they load (`fp8`, `bitsandbytes`), and need no more than the plain weights. Each
    method has a compute capability that it begins with, and dtypes that it computes in. All of this is read
    off the installed vLLM.

    ## How to tell
    `quantization_config` in config.json: `quant_method` is the method.

    ## What helps
    To leave `--quantization` out: vLLM takes what the checkpoint says. Or a checkpoint that is quantised that
    way: its name mostly ends in -AWQ, -GPTQ-Int4 or -FP8.
    """
    wants_model(launch)
    asked = _asked(launch)
    if model.config is None:
        raise CannotTell(without_config(model))
    if not asked and model.quantization is None:
        return
    capability = _capability(card)
    methods = _methods(launch, model)
    found = loading(model.quantization, asked, methods, model.quantization_files, capability)
    if found.ended == "cannot-tell":
        raise CannotTell(found.reason)
    if found.ended == "no-config":
        yield _without_config(launch, model, asked, found)
    elif found.ended == "mismatch":
        yield _mismatch(launch, model, asked, found)
    elif found.ended == "not-a-method":
        yield from _no_method(launch, model, asked, methods)
    else:
        yield from _on_this_card(launch, model, found, methods, card, capability)


def _asked(launch: Launch) -> str:
    """Return the method that is asked for, "" for none; raise CannotTell where that is not known."""
    given = launch.options.get(_OPTION)
    if given is not None and not given.values:
        raise CannotTell(f"the value of {_OPTION} is not known: {given.reason}")
    asked = (launch.text(_OPTION) or "").lower()
    return "" if asked == "none" else asked


def _capability(card: Card | None) -> int | None:
    """Return 86 for compute capability 8.6."""
    digits = card.capability.replace(".", "") if card is not None else ""
    return int(digits) if digits.isdecimal() and len(digits) <= _LONGEST else None


def _methods(launch: Launch, model: Model) -> Methods:
    """Return what this vLLM can do; raise CannotTell where that, or what it will read, is not known."""
    if "--hf-overrides" in launch.options:
        raise CannotTell("--hf-overrides may say how the weights are quantised")
    if model.params:
        raise CannotTell("vLLM may read params.json instead of config.json")
    if model.methods is None or not model.methods.names:
        where = "which vLLM is in the image" if launch.contained else "no vLLM is installed here whose source"
        tells = "is not looked into" if launch.contained else "tells what it can load"
        raise CannotTell(f"{where} {tells}")
    return model.methods


def _said(launch: Launch, asked: str) -> tuple[Evidence, ...]:
    given = launch.options.get(_OPTION)
    return (Evidence(given.origin, f"{given.spelled} {asked}"),) if given is not None and asked else ()


def _without_config(launch: Launch, model: Model, asked: str, found: Loading) -> Finding:
    if found.files and not model.path:
        raise CannotTell(f"whether the repository has {' or '.join(found.files)} was not asked")
    # What vLLM has fetched for another launch may lack a file that it fetches for this one.
    unsure = bool(found.files) and model.may_download and not model.whole
    ends = (
        f'"Cannot find the config file for {asked}"' if found.files else "an error, for there is no default"
    )
    rows = [Evidence(model.config_path, "has no quantization_config: the weights are not quantised")]
    if found.files:
        rows.append(Evidence(model.path, f"no {' and no '.join(found.files)} either"))
    if unsure:
        rows.append(
            Evidence(model.cache, "holds what vLLM has fetched so far, which may not be all there is")
        )
    likely = "will probably stop" if unsure else "will stop"
    return Finding(
        f"{model.name} is not quantised with {asked}: vLLM {likely} with {ends}",
        Severity.WARNING if unsure else Severity.ERROR,
        (*_said(launch, asked), *rows),
        either(
            *(f"{each}   # is here, and looks quantised that way" for each in model.similar),
            f"leave {_OPTION} out   # the weights are loaded as they are: {_as_they_are(model)}",
        ),
    )


def _as_they_are(model: Model) -> str:
    size = model.weights.tensor_bytes if model.weights is not None else None
    amount = f"{size / (1 << 30):.1f} GiB" if size else ""
    return " of ".join(filter(None, (amount, model.dtype))) or "not quantised"


def _mismatch(launch: Launch, model: Model, asked: str, found: Loading) -> Finding:
    stated = model.quantization
    assert stated is not None  # or there would be nothing that does not match
    because = f": {found.reason}" if found.reason else ""
    return Finding(
        f"the checkpoint is quantised with {stated.method}, which {_OPTION} {asked} does not load{because}",
        Severity.ERROR,
        (
            *_said(launch, asked),
            Evidence(model.config_path, f"{_place(stated.source)}: quant_method {stated.method}"),
            Evidence("vLLM", f'"Quantization method specified in the model config ({stated.method}) does not '
                     'match"'),
        ),
        either(f"leave {_OPTION} out   # vLLM takes what the checkpoint says"),
    )  # fmt: skip


def _place(source: str) -> str:
    return source.partition(": ")[2] or source


def _no_method(launch: Launch, model: Model, asked: str, methods: Methods) -> Iterator[Finding]:
    if methods.doubt:
        raise CannotTell(methods.doubt)
    if asked and asked not in methods.names:
        if any(each.name == _OPTION for each in launch.refused):
            raise Skip(f"option-unknown says that {_OPTION} does not take {asked}")
        yield Finding(
            f"this vLLM has no quantisation called {asked}",
            Severity.ERROR,
            (*_said(launch, asked), Evidence(methods.source, f"names {', '.join(methods.names)}")),
            either(f"leave {_OPTION} out   # vLLM takes what the checkpoint says"),
        )
        return
    stated = model.quantization
    assert stated is not None  # or nothing else could be no method
    yield Finding(
        f"this vLLM cannot load weights that are quantised with {stated.method}",
        Severity.ERROR,
        (
            Evidence(model.config_path, f"{_place(stated.source)}: quant_method {stated.method}"),
            Evidence(methods.source, f"names {', '.join(methods.names)}"),
        ),
    )


def _on_this_card(
    launch: Launch, model: Model, found: Loading, methods: Methods, card: Card | None, capability: int | None
) -> Iterator[Finding]:
    """Report a method that the card is too old for, or that does not compute in the launch's dtype."""
    method, stated = found.method, model.quantization
    rows = _said(launch, _asked(launch))
    if stated is not None:
        rows = (*rows, Evidence(model.config_path, f"{_place(stated.source)}: quant_method {stated.method}"))
    least = methods.least_capability.get(method)
    if least is not None and capability is not None and card is not None and capability < least:
        yield Finding(
            f"{method} needs a GPU of compute capability {least / 10:.1f}, and {card.name or 'this one'} has "
            f"{card.capability}",
            Severity.ERROR,
            (*rows, Evidence(methods.source, f"{method} begins at {least / 10:.1f}")),
            either(f"leave {_OPTION} out   # {_as_they_are(model)}" if stated is None else ""),
        )
        return
    dtype, source = _dtype(launch, model, capability)
    computes = methods.dtypes.get(method, ())
    if dtype and computes and dtype not in computes:
        yield Finding(
            f"{method} computes in {' or '.join(computes)} only, and the launch would in {dtype}",
            Severity.ERROR,
            (*rows, Evidence(source, dtype)),
            either(
                f"{_OPTION} {found.faster}" if dtype in methods.dtypes.get(found.faster, ()) else "",
                f"--dtype {computes[0]}",
            ),
        )


def _dtype(launch: Launch, model: Model, capability: int | None) -> tuple[str, str]:
    """Return what the model would compute in, and what says so; "" where the rest of the rules decides."""
    asked = launch.text("--dtype") or "auto"
    if asked != "auto":
        return _DTYPES.get(asked, asked), launch.options["--dtype"].origin
    # Where the card has no bfloat16, "auto" makes float16 of it.
    sure = model.dtype == "bfloat16" and capability is not None and capability >= 80
    return (model.dtype, model.config_path) if sure else ("", "")
