"""The command line: parse, call, print. Nothing heavy is imported before a command needs it."""

from polyclinic.cli.entry import main

__all__ = ["main"]
