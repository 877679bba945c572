"""The process that runs a candidate's first call, so that it can be ended while it runs.

`("arguments", values)` sets the inputs, `("call", program)` runs a serialised executable on them.
"""

from __future__ import annotations

import time
from typing import Any

from tdjax.comparison.system.child_loop import serve


class _Worker:
    def __init__(self) -> None:
        self._arguments: Any = None

    def answer(self, kind: str, payload: Any) -> Any:
        """Return `("done", seconds, outputs)` of a call, None when the arguments are there."""
        import jax

        if kind == "call":
            return "done", *_call(payload, self._arguments)
        self._arguments = jax.block_until_ready(jax.device_put(payload))
        return None


def _call(serialised: Any, arguments: Any) -> tuple[float, list[Any]]:
    import jax
    import numpy as np
    from jax.experimental.serialize_executable import deserialize_and_load

    run = deserialize_and_load(*serialised)
    start = time.perf_counter()
    outputs = jax.block_until_ready(run(*arguments))
    return time.perf_counter() - start, [np.asarray(leaf) for leaf in outputs]


if __name__ == "__main__":
    serve(_Worker().answer)
