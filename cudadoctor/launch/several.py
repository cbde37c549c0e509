"""Several launches of which one is run, or all: what can be said of them."""

from __future__ import annotations

from msgspec import structs

from cudadoctor.facts.launch import Given, Launch, Note, Refused


def first_of(launches: list[Launch], source: str, what: str = "lines start vLLM") -> Launch:
    """Return the first, with a note of how many there are."""
    return _noted(launches[0], f"{len(launches)} {what}: the first is read", source)


def common(launches: list[Launch], source: str, what: str = "lines start vLLM") -> Launch:
    """Return what is the same whichever of them is run; the rest is not known."""
    first, others = launches[0], launches[1:]
    because = f"which of the {len(launches)} launches in {source} is run is not known"
    if any((each.image, each.container is None) != (first.image, first.container is None) for each in others):
        apart = Note(f"{because}, and they do not run in the same place", source, "not-followed")
        launch = structs.replace(
            first, kind="other", options={}, refused=(), model="", image="", container=None,
            notes=(*first.notes, apart),
        )  # fmt: skip
        return _noted(launch, f"{len(launches)} {what}: none is read", source)
    variables = {
        name: held for name, held in first.variables.items()
        if all(name in each.variables and each.variables[name].value == held.value for each in others)
    }  # fmt: skip
    doubtful = {
        name: because for each in launches for name in each.variables if name not in variables
    } | {name: said for each in launches for name, said in each.doubtful.items()}  # fmt: skip
    same = all(each.model == first.model for each in others)
    launch = structs.replace(
        first,
        options=_options(launches, because),
        model=first.model if same else "",
        model_origin=first.model_origin if same else "",
        variables=variables,
        doubtful=doubtful,
        unset=tuple(name for name in first.unset if all(name in each.unset for each in others)),
        folder=first.folder if all(each.folder == first.folder for each in others) else "",
        activated=first.activated if all(each.activated == first.activated for each in others) else "",
        refused=_refused(launches),
        partial=next((each.partial for each in launches if each.partial), ""),
        notes=tuple(dict.fromkeys(note for each in launches for note in each.notes)),
    )
    return _noted(launch, f"{len(launches)} {what}: what they do not have in common is not known", source)


def _noted(launch: Launch, text: str, source: str) -> Launch:
    return structs.replace(launch, notes=(*launch.notes, Note(text, source, "several-launches")))


def _options(launches: list[Launch], because: str) -> dict[str, Given]:
    found: dict[str, Given] = {}
    for name in dict.fromkeys(name for each in launches for name in each.options):
        given = [each.options[name] for each in launches if name in each.options]
        agreed = len(given) == len(launches) and len({(one.values, one.reason) for one in given}) == 1
        found[name] = given[0] if agreed else Given((), given[0].origin, given[0].spelled, because)
    return found


def _refused(launches: list[Launch]) -> tuple[Refused, ...]:
    """Return what any of them is refused for; what not all of them are is uncertain."""
    found: dict[tuple[str, str, str], Refused] = {}
    times: dict[tuple[str, str, str], int] = {}
    for each in launches:
        for key, refused in {(one.name, one.why, one.value): one for one in each.refused}.items():
            found.setdefault(key, refused)
            times[key] = times.get(key, 0) + 1
    return tuple(
        refused if times[key] == len(launches) else structs.replace(refused, uncertain=True)
        for key, refused in found.items()
    )
