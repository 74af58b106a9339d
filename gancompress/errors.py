"""Every error that a user can cause.

GanCompressError            exit code 2, one message, no traceback
├── ConfigError             an options file, a flag, or options that do not fit the run folder
├── DataError               folders, images, pairs
├── CheckpointError         weights that cannot be read or do not fit
├── TraceError              a generator whose channels cannot be followed
├── SpaceError              a subnet or config string that does not fit the search space
├── BudgetError             no subnet fits
├── ExportError             an exported file that does not compute the same images
└── Interrupted             exit code 75: state is saved, rerunning the command resumes
"""

from __future__ import annotations


class GanCompressError(Exception):
    """Base of all errors that end a command with one message."""

    exit_code = 2


class ConfigError(GanCompressError):
    """An option is unknown, malformed or contradicts the run folder."""


class DataError(GanCompressError):
    """A data folder or an image cannot be used."""


class CheckpointError(GanCompressError):
    """Weights cannot be read, or do not fit the network they are for."""


class TraceError(GanCompressError):
    """A generator's channels cannot be followed; names the module and the operation."""


class SpaceError(GanCompressError):
    """A subnet does not belong to the search space."""


class BudgetError(GanCompressError):
    """No subnet of the space fits the budget; names the smallest cost."""


class ExportError(GanCompressError):
    """An exported file does not reproduce the generator."""


class Interrupted(GanCompressError):  # noqa: N818  # no mistake of the user's
    """A signal ended the run after its state was saved."""

    exit_code = 75
