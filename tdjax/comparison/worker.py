"""The process that runs a candidate's first call, so that it can be ended while it runs.

Reads pickled requests from standard input, answers on standard output: `("arrays", values)`
sets the inputs, `("call", program)` runs a serialised executable on them.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from typing import Any


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    arguments: Any = None
    while True:
        try:
            kind, payload = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        if kind == "arguments":
            import jax

            arguments = jax.block_until_ready(jax.device_put(payload))
            answer: Any = None
        else:
            answer = _call(payload, arguments)
        pickle.dump(answer, answers)
        answers.flush()


def _call(serialised: Any, arguments: Any) -> Any:
    import jax
    import numpy as np
    from jax.experimental.serialize_executable import deserialize_and_load

    try:
        run = deserialize_and_load(*serialised)
        start = time.perf_counter()
        outputs = jax.block_until_ready(run(*arguments))
        seconds = time.perf_counter() - start
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"
    return "done", seconds, [np.asarray(leaf) for leaf in outputs]


if __name__ == "__main__":
    main()
