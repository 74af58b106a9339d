"""Functions from image to image that teach: Python, a command, an endpoint, a file, finished pairs.

What is called is what the user wrote in `teacher.weights`; no file that is read decides it.
"""

from __future__ import annotations

from gancompress.checkpoint.network import WEIGHTS_NAMES
from gancompress.config import TeacherSource
from gancompress.data import ImageKind
from gancompress.data.images import is_image_file
from gancompress.runtimes import FILES
from gancompress.training.functions.files import FileFunction, FinishedPairs
from gancompress.training.functions.function import CallError, Function, Question
from gancompress.training.functions.outside import Command, Endpoint
from gancompress.training.functions.python import PythonFunction

__all__ = ["CallError", "Function", "Question", "function_kind", "load_function"]


def function_kind(source: TeacherSource) -> str | None:
    """What kind of function `teacher.weights` names; None for the weights of a network."""
    given = source.weights
    if given is None or source.module is not None:
        return None
    if isinstance(given, str):
        if "{input}" in given:
            return "command"
        return "endpoint" if "://" in given else "python"
    if given.suffix in FILES and given.is_file():
        return "file"
    known = (*WEIGHTS_NAMES, "config.yaml")
    if given.is_dir() and not any((given / name).exists() for name in known):
        return "pairs" if any(is_image_file(path) for path in given.rglob("*")) else None
    return None


def load_function(source: TeacherSource, taken: ImageKind, made: ImageKind) -> Function:
    """The function that `teacher.weights` names, see `function_kind`.

    Raises:
        ConfigError: It cannot be imported or found.
        CheckpointError: The file cannot be read.
    """
    text, kind = str(source.weights), function_kind(source)
    if kind == "python":
        return PythonFunction(text, taken, made)
    if kind == "command":
        return Command(text, taken, made, source.calls.timeout_s)
    if kind == "endpoint":
        return Endpoint(text, taken, made, source.calls.timeout_s)
    return (FileFunction if kind == "file" else FinishedPairs)(text, taken, made)
