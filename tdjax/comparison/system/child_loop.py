"""The loop of a child process: pickled requests from standard input, answers on standard output."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from typing import Any

from tdjax.comparison.system.forked import Failed


def serve(answer: Callable[[str, Any], Any]) -> None:
    """Answer requests until standard input ends.

    Args:
        answer: called with the kind and the payload of each; what it raises is answered as
            `("failed", text)`.
    """
    answers = os.fdopen(os.dup(1), "wb")
    # What others print in this process, compilers above all, must not fall into the answers.
    os.dup2(2, 1)
    while True:
        try:
            kind, payload = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            said = answer(kind, payload)
        except Failed as error:
            said = "failed", str(error)
        except Exception as error:
            said = "failed", f"{type(error).__name__}: {error}"
        pickle.dump(said, answers)
        answers.flush()
