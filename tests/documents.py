"""Commands and programs that the documents show."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
]


def fenced(path: Path, language: str = "") -> list[str]:
    """The blocks of code of one language."""
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [content for name, content in blocks if name == language]


def commands(path: Path) -> list[list[str]]:
    """Words of every command in blocks and in the text; names of commands alone are left out."""
    text = path.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [span.replace("\n", " ") for span in re.findall(r"`([^`]+)`", prose)]
    lines += "\n".join(fenced(path)).replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        match = re.match(r"(?:torchrun .*|python -m )?\b(gancompress \S.*)", line)
        if match is None:
            continue
        words = shlex.split(match[1], comments=True)[1:]
        if len(words) > 1 and words not in found:
            found.append(words)
    return found


def files_named(path: Path) -> set[str]:
    """Scripts, benchmarks and options files that a document names."""
    pattern = r"\b(?:scripts|benchmarks|options)/[\w/.-]+\.(?:sh|py|yaml)\b"
    return set(re.findall(pattern, path.read_text(encoding="utf-8")))
