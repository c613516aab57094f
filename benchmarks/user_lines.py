"""How much a user writes for an engine, counted from the files that were run.

A line of Python counts if it has code: neither blank, nor a comment, nor part of a docstring. Lines
that name the stopwatch or its `marks` do not count: they only measure. A line of configuration
counts unless it is blank or a comment. What all engines share (data, the plan of a stage, training,
averaging) is in modules of its own and counts for none.
"""

import ast
import io
import re
import tokenize
from pathlib import Path

_MEASURING = re.compile(r"\b(marks|stopwatch)\b", re.IGNORECASE)
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def python_lines(path: Path) -> int:
    """Lines of code in the module at `path`."""
    text = path.read_text(encoding="utf-8")
    coded: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            coded.update(range(token.start[0], token.end[0] + 1))
    lines = text.splitlines()
    measuring = {number for number in coded if _MEASURING.search(lines[number - 1])}
    return len(coded - _docstrings(text) - measuring)


def configuration_lines(path: Path) -> int:
    """Lines of a TOML file that say something."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return sum(1 for line in lines if line and not line.startswith("#"))


def _docstrings(text: str) -> set[int]:
    """The lines of all docstrings."""
    found: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            if ast.get_docstring(node) is not None:
                found.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return found
