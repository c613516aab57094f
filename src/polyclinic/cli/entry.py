"""The group of all commands, and the one place where errors become one line and an exit code.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | any other error |
| 2 | an option or the configuration is wrong |
| 3 | a data set cannot be read or used |
| 4 | a message held something that may not leave a site |
| 5 | a run directory cannot be written, read or resumed |
| 6 | `data check` found warnings |
| 7 | `data check` found errors |
| 8 | a ledger does not verify, or cannot be written |
| 70 | a bug in Polyclinic |
| 130 | interrupted |
"""

import errno
import os
import sys
import traceback
from collections.abc import Sequence

import click

from polyclinic import __version__
from polyclinic.cli.adopt import adopt
from polyclinic.cli.audit import audit
from polyclinic.cli.completion import completion
from polyclinic.cli.data import data
from polyclinic.cli.demo import demo
from polyclinic.cli.evaluate import evaluate
from polyclinic.cli.export import export
from polyclinic.cli.init import init
from polyclinic.cli.inpaint import inpaint
from polyclinic.cli.interrupt import Interrupted
from polyclinic.cli.ledger import ledger
from polyclinic.cli.predict import predict
from polyclinic.cli.report import report
from polyclinic.cli.run import run
from polyclinic.cli.server import server
from polyclinic.cli.site import site
from polyclinic.cli.status import status
from polyclinic.errors import ConfigError, PolyclinicError, RunError

BUG, INTERRUPTED = 70, 130
_DISK_ERRORS = {
    errno.ENOSPC: "no space left on the disk; free some, then try again (a run with --resume)",
    errno.EDQUOT: "the disk quota is used up; free some, then try again (a run with --resume)",
    errno.EROFS: "the disk is read-only; choose another folder with --out",
    errno.EACCES: "permission denied; choose another folder or change its permissions",
}


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="polyclinic %(version)s")
@click.option("--debug", is_flag=True, help="Show tracebacks (or set POLYCLINIC_DEBUG=1).")
@click.pass_context
def polyclinic(context: click.Context, debug: bool) -> None:
    """One medical-imaging model from many hospitals, and no image leaves any of them.

    \b
    Start here:
      polyclinic demo                   see a whole federation on made-up images
      polyclinic init FOLDER            write federation.toml for a folder of sites
      polyclinic run federation.toml    train, judge, and write the report
    """
    if debug:
        context.ensure_object(set).add("debug")
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


_COMMANDS = (
    demo, init, run, report, data, export, evaluate, adopt, audit, predict, inpaint, completion,
    server, site, status, ledger,
)  # fmt: skip
for _command in _COMMANDS:
    polyclinic.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (`sys.argv` unless `arguments` are given); returns the exit code."""
    flags: set[str] = set()
    # Threads that wait for each other by spinning slow torch down up to fifty times where other
    # work shares the cores. Sleeping sooner costs some speed on an idle machine. Read when torch
    # is loaded, which is later.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    try:
        result = polyclinic.main(
            arguments, prog_name="polyclinic", standalone_mode=False, obj=flags
        )
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`head`, `less`) has gone. Python would complain once more while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except click.exceptions.NoArgsIsHelpError as error:  # `polyclinic data` alone
        click.echo(error.format_message())
        return ConfigError.exit_code
    except Exception as error:
        if "debug" in flags or os.environ.get("POLYCLINIC_DEBUG"):
            traceback.print_exc()
        text, code = explain(error)
        click.echo(f"polyclinic: {text}", err=True)
        return code
    except KeyboardInterrupt:
        click.echo("polyclinic: interrupted", err=True)
        return INTERRUPTED
    return result if isinstance(result, int) else 0


def explain(error: Exception) -> tuple[str, int]:
    """One line about `error`, and the exit code."""
    match error:
        case Interrupted():
            text, code = f"interrupted; continue with: {error}", INTERRUPTED
        case click.Abort():  # click's name for Ctrl-C outside of a run
            text, code = "interrupted", INTERRUPTED
        case PolyclinicError():
            text, code = f"error: {error}", error.exit_code
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "polyclinic"
            message = error.format_message().rstrip(".")
            text, code = f"error: {message}; see `{command} --help`", ConfigError.exit_code
        case click.ClickException():
            text, code = f"error: {error.format_message()}", ConfigError.exit_code
        case OSError(errno=number) if number in _DISK_ERRORS:
            where = error.filename or "the run directory"
            text, code = f"error: {where}: {_DISK_ERRORS[number]}", RunError.exit_code
        case MemoryError():
            text, code = "error: out of memory; reduce jobs, batch_size or data.image_size", 1
        case _:
            about = f"{type(error).__name__}: {error}".rstrip(": ")
            text, code = (
                f"error: this is a bug in Polyclinic {__version__} ({about}); "
                "please report it with the output of the same command and POLYCLINIC_DEBUG=1",
                BUG,
            )
    return " ".join(text.split()), code
