"""What commands print when they are done: tables of text, lines of JSON."""

import json
import math
from collections.abc import Sequence
from typing import Any

import click


def emit(event: dict[str, Any]) -> None:
    """Print `event` on stdout as one line of JSON; numbers that JSON lacks become null."""
    click.echo(json.dumps(_finite(event), ensure_ascii=False, allow_nan=False))


def table(header: Sequence[str], rows: Sequence[Sequence[object]], indent: str = "") -> str:
    """Columns as wide as needed; a column of numbers (or `-`) is aligned to the right."""
    texts = [list(map(str, row)) for row in rows]
    columns = [list(column) for column in zip(header, *texts, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    right = [all(_is_number(cell) for cell in column[1:]) for column in columns]
    lines = []
    for row in [list(header), *texts]:
        cells = [
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(row, widths, right, strict=True)
        ]
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def _is_number(text: str) -> bool:
    return text == "-" or text.lstrip("+-").replace(".", "", 1).isdigit()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
