"""Every error that Polyclinic raises on purpose, in one tree.

    PolyclinicError
    ├── ConfigError       a configuration file or an option
    ├── DataError         a folder, a file, a label, a split
    ├── KnowledgeError    something that may not leave a site, or may not arrive
    │   └── RosterError   keys of the other sites that nobody has confirmed yet
    ├── RunError          a run directory, a checkpoint, the disk under it
    │   ├── AbsentError   a site that is not there, or does not answer in time
    │   └── PrivacyError  a privacy budget that is spent, or a claim that would not hold
    └── LedgerError       the ledger of what left a site, or its key

The command line prints `str(error)` on one line and exits with `exit_code`. A message says what
was expected, what came, in which file or from which site, and what to do about it.
"""

import difflib
from collections.abc import Iterable


class PolyclinicError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the command line exits with."""

    exit_code = 1


class ConfigError(PolyclinicError):
    """A configuration file or a command-line option is wrong."""

    exit_code = 2


class DataError(PolyclinicError):
    """A data set cannot be read, or may not be used as it is."""

    exit_code = 3


class KnowledgeError(PolyclinicError):
    """A message holds something that the closed schema of knowledge does not declare."""

    exit_code = 4


class RosterError(KnowledgeError):
    """The sites' public keys have not been confirmed at a site, so it takes no part yet."""


class RunError(PolyclinicError):
    """A run directory cannot be written, read or resumed."""

    exit_code = 5


class AbsentError(RunError):
    """A site is not there now, or has not answered in time; it may come back."""


class PrivacyError(RunError):
    """A privacy budget would be exceeded, or what is claimed of privacy would not hold."""


class LedgerError(PolyclinicError):
    """A ledger cannot be written, read or continued, or does not verify."""

    exit_code = 8


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """The end of a message about an unknown `word`: the known one that it resembles most.

    >>> did_you_mean("skni", ["skin", "chest"])
    '; did you mean `skin`?'

    Where none does, `otherwise`.
    """
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean `{near[0]}`?" if near else otherwise
