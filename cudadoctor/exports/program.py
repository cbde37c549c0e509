"""The program that activation and deactivation run, in POSIX sh, and how fish and csh come to its result.

Whatever is changed is noted in variables of a slot, which belongs to one environment's folder: the value
before, the value set, and the entries added. So environments can be activated on top of each other, and what
is restored does not depend on the exports that the files hold by then. The notes are exported, as conda's
own state is: a shell started from an activated one can deactivate.

    _CUDADOCTOR_1_PREFIX=/envs/a  _CUDADOCTOR_1_NAMES=CUDA_HOME:LIBRARY_PATH:
    _CUDADOCTOR_1_CUDA_HOME_OLD=x/usr/local/cuda  _CUDADOCTOR_1_CUDA_HOME_NEW=x/envs/a

Noted values start with an x; one without is a variable that was not set.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cudadoctor.actions import Export
from cudadoctor.exports.commands import single_quoted
from cudadoctor.exports.model import bare, parts

# No word of it may be split or matched against files, for zsh does not and `set -f` need not be on; every
# command succeeds, for `set -e` may be on; every variable is set or has a default, for `set -u` may be on.
_RESTORE = """\
_cudadoctor_slot=""
_cudadoctor_free=9
for _cudadoctor_n in 9 8 7 6 5 4 3 2 1; do
    eval "_cudadoctor_held=\\${_CUDADOCTOR_${_cudadoctor_n}_PREFIX-}"
    case "${_cudadoctor_held}" in
        "") _cudadoctor_free="${_cudadoctor_n}" ;;
        "${@PLACE@}") _cudadoctor_slot="${_cudadoctor_n}" ;;
    esac
done
if [ -n "${_cudadoctor_slot}" ]; then
    eval "_cudadoctor_names=\\${_CUDADOCTOR_${_cudadoctor_slot}_NAMES-}"
    while [ -n "${_cudadoctor_names}" ]; do
        _cudadoctor_name="${_cudadoctor_names%%:*}"
        _cudadoctor_names="${_cudadoctor_names#*:}"
        _cudadoctor_note="_CUDADOCTOR_${_cudadoctor_slot}_${_cudadoctor_name}"
        eval "_cudadoctor_now=\\${${_cudadoctor_name}+x\\${${_cudadoctor_name}}}"
        eval "_cudadoctor_old=\\${${_cudadoctor_note}_OLD-}"
        eval "_cudadoctor_new=\\${${_cudadoctor_note}_NEW-}"
        eval "_cudadoctor_added=\\${${_cudadoctor_note}_ADDED-}"
        if [ "${_cudadoctor_now}" != "${_cudadoctor_new}" ]; then
            # Somebody has changed it since: only the entries that were added are taken out.
            _cudadoctor_old="${_cudadoctor_now}"
            if [ -n "${_cudadoctor_added}" ] && [ -n "${_cudadoctor_now#x}" ]; then
                _cudadoctor_rest="${_cudadoctor_now#x}:"
                _cudadoctor_old=""
                while [ -n "${_cudadoctor_rest}" ]; do
                    _cudadoctor_entry="${_cudadoctor_rest%%:*}"
                    _cudadoctor_rest="${_cudadoctor_rest#*:}"
                    case ":${_cudadoctor_added}:" in
                        *":${_cudadoctor_entry}:"*) ;;
                        *) _cudadoctor_old="${_cudadoctor_old:-x}${_cudadoctor_old:+:}${_cudadoctor_entry}" ;;
                    esac
                done
            fi
        fi
        case "${_cudadoctor_old}" in
            x*) @set@ "${_cudadoctor_name}=${_cudadoctor_old#x}" ;;
            *) @unset@ "${_cudadoctor_name}" ;;
        esac
        @unset@ "${_cudadoctor_note}_OLD"
        @unset@ "${_cudadoctor_note}_NEW"
        @unset@ "${_cudadoctor_note}_ADDED"
    done
    @unset@ "_CUDADOCTOR_${_cudadoctor_slot}_PREFIX"
    @unset@ "_CUDADOCTOR_${_cudadoctor_slot}_NAMES"
fi
"""

_NOTE = """\
_cudadoctor_note="_CUDADOCTOR_${_cudadoctor_slot:-${_cudadoctor_free}}"
@set@ "${_cudadoctor_note}_PREFIX=${@PLACE@}"
@set@ "${_cudadoctor_note}_NAMES=@names@"
"""

_WHOLE = """\
@set@ "${_cudadoctor_note}_@NAME@_OLD=${@NAME@+x${@NAME@}}"
@set@ @NAME@=@value@
@set@ "${_cudadoctor_note}_@NAME@_NEW=x${@NAME@}"
"""

_WITHOUT = """\
@set@ "${_cudadoctor_note}_@NAME@_OLD=${@NAME@+x${@NAME@}}"
@unset@ @NAME@
@set@ "${_cudadoctor_note}_@NAME@_NEW="
"""

_LIST = """\
@set@ "${_cudadoctor_note}_@NAME@_OLD=${@NAME@+x${@NAME@}}"
_cudadoctor_rest="${@NAME@-}:"
_cudadoctor_there=":"
_cudadoctor_new=""
_cudadoctor_added=""
while [ -n "${_cudadoctor_rest}" ]; do
    _cudadoctor_entry="${_cudadoctor_rest%%@separator@*}"
    _cudadoctor_rest="${_cudadoctor_rest#*@separator@}"
    _cudadoctor_bare="${_cudadoctor_entry}"
    while [ "${_cudadoctor_bare%/}" != "${_cudadoctor_bare}" ] && [ "${_cudadoctor_bare}" != / ]; do
        _cudadoctor_bare="${_cudadoctor_bare%/}"
    done
    case "${_cudadoctor_bare}" in
        @gone@) ;;
        *)
            _cudadoctor_new="${_cudadoctor_new}${_cudadoctor_new:+:}${_cudadoctor_entry}"
            _cudadoctor_there="${_cudadoctor_there}${_cudadoctor_bare}:"
            ;;
    esac
done
"""

_ADD = """\
case "${_cudadoctor_there}" in
    *:@bare@:*) ;;
    *)
        _cudadoctor_there="${_cudadoctor_there}"@bare@:
        _cudadoctor_added="${_cudadoctor_added}${_cudadoctor_added:+:}"@entry@
        _cudadoctor_new="${_cudadoctor_new}${_cudadoctor_new:+:}"@entry@
        ;;
esac
"""

_PUT_LIST = """\
@set@ "${_cudadoctor_note}_@NAME@_ADDED=${_cudadoctor_added}"
if [ -n "${_cudadoctor_new}" ]; then
    @set@ "@NAME@=${_cudadoctor_new}"
else
    @unset@ @NAME@
fi
@set@ "${_cudadoctor_note}_@NAME@_NEW=${@NAME@+x${@NAME@}}"
"""

_FORGET = """\
unset _cudadoctor_slot _cudadoctor_free _cudadoctor_n _cudadoctor_held _cudadoctor_names _cudadoctor_name
unset _cudadoctor_note _cudadoctor_now _cudadoctor_old _cudadoctor_new _cudadoctor_added _cudadoctor_rest
unset _cudadoctor_entry _cudadoctor_there _cudadoctor_bare
"""

# For fish and csh, which cannot run it: sh does, and prints each change as a command of theirs.
_TELL = """\
_put() { export "$1"; printf "@set@" "${1%%=*}"; _quote "${1#*=}"; printf "'; "; }
_drop() { unset "$1"; printf "@unset@; " "$1"; }
_quote() {
    _left=$1
    while :; do
        case $_left in
            *[@special@]*) ;;
            *) break ;;
        esac
        _head=${_left%%[@special@]*}
        _left=${_left#"$_head"}
        printf "%s" "$_head"
        case $_left in
            \\'*) printf "%s" "@quote@" ;;
            *) printf "%s" "@other@" ;;
        esac
        _left=${_left#?}
    done
    printf "%s" "$_left"
}
"""


class Program:
    """The program of one kind of environment for one shell.

    `place` is the variable that activation puts the environment's folder in, `shell` is sh, fish or csh.
    """

    def __init__(self, place: str, shell: str) -> None:
        self.shell = shell
        self._texts = {"PLACE": place, "set": "_put", "unset": "_drop"}
        if shell == "sh":
            self.head, self.tail = "", _FORGET
            self._texts |= {"set": "export", "unset": "unset"}
        elif shell == "fish":
            self.head, self.tail = _filled(_TELL, **_FISH), ""
        else:
            self.head, self.tail = _filled(_TELL, **_CSH), ""

    def restore(self) -> str:
        """Return what takes back the changes that are noted for the folder."""
        return self._filled(_RESTORE)

    def apply(self, exports: Sequence[Export]) -> str:
        """Return what makes the changes and notes them, once those of an earlier time are taken back."""
        names = "".join(f"{export.name}:" for export in exports)
        return self._filled(_NOTE, names=names) + "".join(map(self._one, exports))

    def _one(self, export: Export) -> str:
        name = export.name
        if not export.is_list:
            return self._filled(
                _WHOLE if export.value else _WITHOUT, NAME=name, value=self._word(export.value)
            )
        separator = "[:;]" if name == "LD_LIBRARY_PATH" else ":"
        gone = " | ".join(self._word(bare(entry)) for entry in dict.fromkeys(("", *export.remove)))
        added = "".join(
            self._filled(_ADD, bare=self._word(bare(entry)), entry=self._word(entry))
            for entry in export.add
            if entry
        )
        take = self._filled(_LIST, NAME=name, separator=separator, gone=gone)
        return take + added + self._filled(_PUT_LIST, NAME=name)

    def _word(self, text: str) -> str:
        """Return text in `{prefix}` form as one word, whatever is in it."""
        place = f'"${{{self._texts["PLACE"]}}}"'
        found = [place if part is None else single_quoted(part) for part in parts(text) if part != ""]
        return "".join(found) or '""'

    def _filled(self, text: str, **more: str) -> str:
        return _filled(text, **self._texts, **more)


_FISH = {
    "set": "set -gx %s '",
    "unset": "set -eg %s",
    "special": "\\\\\\'",
    "quote": "\\\\'",
    "other": "\\\\\\\\",
}
_CSH = {"set": "setenv %s '", "unset": "unsetenv %s", "special": "\\'!", "quote": "'\\\\''", "other": "\\\\!"}


def _filled(text: str, **values: str) -> str:
    # In one go: what is put in may itself look like a place to fill.
    return re.sub(r"@(\w+)@", lambda match: values[match[1]], text)
