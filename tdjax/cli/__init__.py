"""The command line: `tdjax compare`, `tune`, `fit`, `calibrate`, `oracle`, `show` and `targets`."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from tdjax._version import __version__
from tdjax.cli import calibrate, compare, show, tune
from tdjax.cli.arguments import INTERRUPTED, Wrong

_UNREAD = 1
_USAGE = 2
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise Wrong(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the words after the program's name; None takes the process's own.

    Returns:
        The exit code: 0; 1 if the output's reader is gone; 2 for wrong usage or a full disk, after
        one line that begins with `error:`; 130 after Ctrl-C.
    """
    _replace_what_cannot_be_encoded()
    try:
        from tdjax.comparison.system.extras import leave_out_absent

        words = sys.argv[1:] if arguments is None else list(arguments)
        chosen, unread = _parser().parse_known_args(words)
        if unread:
            said = f"unrecognized arguments: {' '.join(unread)}"
            command = next(word for word in words if not word.startswith("-"))
            raise Wrong(f"{said} (see tdjax {command} --help)")
        chosen.words = words[1:]
        leave_out_absent()
        code: int = chosen.command(chosen)
        sys.stdout.flush()
    except Wrong as error:
        return _fail(error)
    except OSError as error:
        if not isinstance(error, BrokenPipeError) and error.errno not in _FULL:
            raise
        # Python flushes standard output once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return _UNREAD
        return _fail(f"{error.filename or 'standard output'}: {error.strerror}")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        code = INTERRUPTED
    if code == INTERRUPTED and arguments is None:
        # After an interrupt JAX may crash while Python shuts down: the exit code would be that of
        # a segmentation fault.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _replace_what_cannot_be_encoded() -> None:
    """Show "?" on a terminal or in a file whose encoding has no "±"."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and "utf" not in stream.encoding.lower():
            stream.reconfigure(errors="replace")


def _fail(error: object) -> int:
    sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
    return _USAGE


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tdjax", description="Compare the ways to distribute a function over time."
    )
    parser.add_argument("--version", action="version", version=f"tdjax {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    compare.add(commands)
    tune.add(commands)
    calibrate.add(commands)
    show.add(commands)
    return parser
