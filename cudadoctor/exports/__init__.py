"""Variables that an environment's activation shall set: as a model, as text for a shell, and in its files."""

from cudadoctor.exports.activation import Edited, NoActivation, Written, files, from_script, persisted, script
from cudadoctor.exports.commands import SHELLS, Unwritable, commands
from cudadoctor.exports.model import LISTS, absolute, environ_after, merged, outcome, relative, toward

__all__ = [
    "LISTS",
    "SHELLS",
    "Edited",
    "NoActivation",
    "Unwritable",
    "Written",
    "absolute",
    "commands",
    "environ_after",
    "files",
    "from_script",
    "merged",
    "outcome",
    "persisted",
    "relative",
    "script",
    "toward",
]
