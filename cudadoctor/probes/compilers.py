"""The host compilers, who uses which, and where each makes the linker look.

The search order is asked of the driver itself: `-###` prints the linker's command line without running it
(and shows what specs files add), `-print-search-dirs` with a marker in LIBRARY_PATH shows the forms in which
GCC looks into each of its entries, and `ld --verbose` prints the folders built into the linker.
"""

from __future__ import annotations

import re
import shlex
import threading
from collections.abc import Iterator, Mapping

from cudadoctor.facts import Compiler, Compilers, CompilerUse, Environ, LinkSearch, Packages
from cudadoctor.host import Host, which
from cudadoctor.simulate.linker import LINKERS_OWN

_MARK = "/.cudadoctor"
_TIMEOUT_S = 5.0
_EMULATIONS = {"elf_x86_64": ("x86_64", 64), "elf_i386": ("i386", 32), "elf32_x86_64": ("x86_64", 32)}
_LINKER_FLAGS = {"gold": "ld.gold", "bfd": "ld.bfd", "lld": "ld.lld", "mold": "ld.mold"}


def probe(host: Host, environ: Environ, packages: Packages) -> Compilers:
    """Return each compiler that some consumer of this target will start."""
    uses = tuple(_uses(host, environ, packages))
    variables = child_environ(host, environ)
    found: dict[str, Compiler] = {}
    threads = []
    for command, linking in _commands(host, uses, environ).items():
        thread = threading.Thread(
            target=_into, args=(found, host, command, linking, environ, variables), daemon=True
        )
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()
    return Compilers({use.command: found[use.command] for use in uses}, uses)


def child_environ(host: Host, environ: Environ) -> dict[str, str]:
    """Return the variables for a child that shall see what the target's programs will see."""
    variables = {**host.environ, **{name: v.value for name, v in environ.variables.items()}, "LC_ALL": "C"}
    variables["PATH"] = ":".join(environ.path)
    return variables


def _uses(host: Host, environ: Environ, packages: Packages) -> Iterator[CompilerUse]:
    cxx, cxx_rule = (environ.get("CXX") or "c++"), ("CXX" if environ.get("CXX") else "the default, c++")
    device, device_rule = _device_compiler(environ)
    for consumer in ("flashinfer", "torch", "tvm-ffi"):
        yield CompilerUse(consumer, "link", cxx, cxx_rule)
    for consumer in ("flashinfer", "torch"):
        command, rule = device, device_rule
        if environ.get("CC") and not _appended_ccbin(environ):
            command, rule = environ.get("CC") or "", "CC, which it hands to nvcc as -ccbin"
        yield CompilerUse(consumer, "device", command, rule)
    yield CompilerUse(
        "cmake",
        "device",
        environ.get("CUDAHOSTCXX") or cxx,
        "CUDAHOSTCXX" if environ.get("CUDAHOSTCXX") else cxx_rule,
    )
    if packages.find("triton") or packages.find("pytorch-triton"):
        yield CompilerUse("triton", "stub", *_triton_compiler(host, environ))


def _appended_ccbin(environ: Environ) -> str:
    return _ccbin(environ.get("NVCC_APPEND_FLAGS") or "")


def _device_compiler(environ: Environ) -> tuple[str, str]:
    """Return the host compiler that nvcc starts by itself, and by what rule; its last -ccbin wins."""
    if found := _appended_ccbin(environ):
        return found, "-ccbin in NVCC_APPEND_FLAGS"
    if found := _ccbin(environ.get("NVCC_PREPEND_FLAGS") or ""):
        return found, "-ccbin in NVCC_PREPEND_FLAGS"
    if named := environ.get("NVCC_CCBIN"):
        return named, "NVCC_CCBIN"
    return "g++", "nvcc's default, g++ on PATH"


def _ccbin(flags: str) -> str:
    matches = re.findall(r"(?:^|\s)(?:-ccbin|--compiler-bindir)[=\s]\s*(\S+)", flags)
    return matches[-1] if matches else ""


def _triton_compiler(host: Host, environ: Environ) -> tuple[str, str]:
    """Apply Triton's own order: CC, then gcc, then clang."""
    if (command := environ.get("CC")) is not None:
        return command, "CC"
    for name in ("gcc", "clang"):
        if which(host, name, environ.path):
            return name, f"{name} on PATH"
    return "gcc", "gcc or clang on PATH"


def _commands(host: Host, uses: tuple[CompilerUse, ...], environ: Environ) -> dict[str, bool]:
    """Return each command once, and whether its link search matters."""
    commands: dict[str, bool] = {}
    for use in uses:
        commands[use.command] = commands.get(use.command, False) or use.job != "device"
    return commands


def _into(
    found: dict[str, Compiler],
    host: Host,
    command: str,
    linking: bool,
    environ: Environ,
    variables: Mapping[str, str],
) -> None:
    try:
        found[command] = _compiler(host, command, linking, environ, variables)
    except Exception as error:
        found[command] = Compiler(command, "", problem=f"{type(error).__name__}: {error}")


def _compiler(
    host: Host, command: str, linking: bool, environ: Environ, variables: Mapping[str, str]
) -> Compiler:
    try:
        words = shlex.split(command)
    except ValueError as error:
        return Compiler(command, "", problem=f"cannot be split into words: {error}")
    path = which(host, words[0], environ.path) if words else ""
    if not path:
        return Compiler(command, "", problem="not found on PATH" if words else "empty")
    argv = [path, *words[1:]]
    dirs: list[str] = []
    asker = threading.Thread(target=_search_dirs, args=(dirs, host, argv, variables), daemon=True)
    if linking:
        asker.start()
    dry = host.run(
        [*argv, "-###", "-fno-use-linker-plugin", "-shared", "/dev/null", f"-L{_MARK}"],
        _without(variables, "LIBRARY_PATH"),
        timeout_s=_TIMEOUT_S,
    )
    if linking:
        asker.join()
    if dry.problem or dry.timed_out or not (told := _identity(dry.stderr)):
        reason = dry.problem or ("did not answer in time" if dry.timed_out else _first_line(dry.stderr))
        return Compiler(command, path, problem=reason or f"exit status {dry.status} without a word")
    family, version, triple = told
    search = _search(host, told, dry.stderr, dirs, environ, variables) if linking else None
    return Compiler(command, path, family, version, triple, search)


def _without(variables: Mapping[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in variables.items() if key != name}


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _identity(text: str) -> tuple[str, str, str] | None:
    triple = re.search(r"^Target: (\S+)", text, re.MULTILINE)
    if match := re.search(r"^gcc version (\S+)", text, re.MULTILINE):
        return "gcc", match[1], triple[1] if triple else ""
    if match := re.search(r"clang version (\d[\d.]*)", text):
        return "clang", match[1], triple[1] if triple else ""
    if match := re.search(r"^nvc\+*(?:-Fortran)? (\d[\d.]*)", text, re.MULTILINE):
        return "nvc++", match[1], triple[1] if triple else ""
    return None


def _search_dirs(into: list[str], host: Host, argv: list[str], variables: Mapping[str, str]) -> None:
    """Ask GCC in which forms, and at which places of its order, it looks into LIBRARY_PATH."""
    ran = host.run([*argv, "-print-search-dirs"], {**variables, "LIBRARY_PATH": _MARK}, timeout_s=_TIMEOUT_S)
    if match := re.search(r"^libraries: =?(.*)$", ran.stdout, re.MULTILINE):
        into += match[1].split(":")


def _search(
    host: Host,
    told: tuple[str, str, str],
    dry: str,
    dirs: list[str],
    environ: Environ,
    variables: Mapping[str, str],
) -> LinkSearch | None:
    """Put the linker's whole search order together; None where the driver did not show its command."""
    family, _, triple = told
    line = next((text for text in reversed(dry.splitlines()) if text.startswith(" ") and _MARK in text), "")
    words = _words(line)
    if not words:
        return None
    shown = _folders_of(words)
    linker = _linker(host, words, environ)
    builtin, sysroot = _builtin(host, linker, words, variables), _option(words, "--sysroot")
    machine, bits = _emulation(words, triple)
    before, after = shown[: shown.index(_MARK)], shown[shown.index(_MARK) + 1 :]
    if family == "gcc":
        after = _weave(after, [_template(entry) for entry in dirs if entry not in LINKERS_OWN])
    else:
        after = [*after, "{LIBRARY_PATH}"]
    builtin = [_under(sysroot, entry) for entry in builtin]
    entries = (*before, "{-L}", *after, *builtin)
    return LinkSearch(entries, linker, machine, bits, single_pass=family != "gcc")


def _folders_of(words: list[str]) -> list[str]:
    """Return the -L folders of a linker's command line, in either spelling."""
    pairs = zip(words, [*words[1:], ""], strict=True)
    return [word[2:] or following for word, following in pairs if word.startswith("-L")]


def _weave(shown: list[str], forms: list[str]) -> list[str]:
    """Put the forms for LIBRARY_PATH at their places among the folders that GCC showed without it.

    `forms` has GCC's own folders in the same order, with those that do not exist; `shown` may have more,
    from a specs file, before, between or behind.
    """
    woven: list[str] = []
    at = end = 0
    for place, folder in enumerate(shown):
        if folder in forms[at:]:
            at, end = forms.index(folder, at) + 1, place + 1
    at = 0
    for place, folder in enumerate(shown):
        if folder in forms[at:]:
            through = forms.index(folder, at) + 1
            woven += forms[at:through]
            at = through
        else:
            woven.append(folder)
        if place + 1 == end:
            woven += forms[at:]
            at = len(forms)
    return woven + forms[at:]


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return []


def _template(entry: str) -> str:
    entry = entry[:-1] if len(entry) > 1 and entry.endswith("/") else entry
    return entry.replace(_MARK, "{LIBRARY_PATH}", 1) if entry.startswith(_MARK) else entry


def _option(words: list[str], name: str) -> str:
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
        if word == name:
            return following
    return ""


def _emulation(words: list[str], triple: str) -> tuple[str, int]:
    """Return machine and bits of the output: as `-m` says, in either spelling, else the compiler's own."""
    for name in (_option(words, "-m"), *(word[2:] for word in words if word.startswith("-m"))):
        if name.startswith("aarch64"):
            return "aarch64", 64
        if name in _EMULATIONS:
            return _EMULATIONS[name]
    machine = triple.partition("-")[0]
    return ("i386", 32) if re.fullmatch(r"i[3-6]86", machine) else (machine, 64)


def _linker(host: Host, words: list[str], environ: Environ) -> str:
    """Return the linker that the shown command would start."""
    program = words[0]
    if not program.endswith("collect2"):
        return program
    flavour = next((word.rpartition("=")[2] for word in words if word.startswith("-fuse-ld=")), "")
    name = _LINKER_FLAGS.get(flavour, "ld")
    beside = program.rpartition("/")[0]
    triple = beside.split("/gcc/")[-1].split("/")[0] if "/gcc/" in beside else ""
    prefix = beside.split("/lib")[0]
    for candidate in (f"{beside}/{name}", f"{prefix}/{triple}/bin/{name}", f"{prefix}/bin/{triple}-{name}"):
        if triple and host.executable(candidate):
            return candidate
    return which(host, name, environ.path)


def _builtin(host: Host, linker: str, words: list[str], variables: Mapping[str, str]) -> list[str]:
    """Return the folders built into the linker, as its default script lists them."""
    if "gold" in linker:
        return ["/lib", "/usr/lib"]
    if not linker or "lld" in linker or "mold" in linker:
        return []
    emulation = _option(words, "-m")
    argv = [linker, *(["-m", emulation] if emulation else []), "--verbose"]
    ran = host.run(argv, variables, timeout_s=_TIMEOUT_S)
    return re.findall(r'SEARCH_DIR\("([^"]+)"\)', ran.stdout)


def _under(sysroot: str, entry: str) -> str:
    return f"{sysroot.rstrip('/')}{entry[1:]}" if entry.startswith("=") else entry
