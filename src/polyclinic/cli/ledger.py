"""`polyclinic ledger`: what left a site, and whether its record of that is whole."""

from pathlib import Path

import click

from polyclinic.cli import engine
from polyclinic.cli.output import emit, table
from polyclinic.errors import LedgerError


@click.group(short_help="See whether a site's record of what left is whole.")
def ledger() -> None:
    """Every message that leaves a site is noted in its ledger, a chain of lines."""


@ledger.command(short_help="Find what was changed, removed or moved in a ledger.")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    help="The site's public key; then every line must be signed by it.",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="A server's federation.json; then every message that it let in must be there.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as lines of JSON.")
def verify(path: Path, key: Path | None, against: Path | None, as_json: bool) -> None:
    """Verify PATH: a ledger, a folder of ledgers, or the directory of a run."""
    found = engine.verify_ledgers(path, key, against)
    if as_json:
        for one in found:
            emit(
                {
                    "event": "ledger",
                    "ledger": str(one.path),
                    "site": one.site,
                    "lines": one.lines,
                    "bytes": one.bytes,
                    "signed": one.signed,
                    "signatures_checked": one.checked,
                    "last": one.last,
                    "problems": list(one.problems),
                }
            )
    else:
        rows = [
            (one.site or one.path.name, one.lines, one.bytes, _signed(one.signed, one.checked),
             len(one.problems), one.last[:16])
            for one in found
        ]  # fmt: skip
        click.echo(table(("site", "messages", "bytes", "signed", "problems", "last line"), rows))
        for one in found:
            for problem in one.problems:
                click.echo(f"{one.path}: {problem}")
    wrong = [one for one in found if one.problems]
    if wrong:
        raise LedgerError(
            f"{path}: {len(wrong)} of {len(found)} ledgers do not verify; what is wrong stands "
            "above, line by line"
        )


def _signed(number: int, checked: bool) -> str:
    return f"{number}, {'checked' if checked else 'not checked'}" if number else "no"
