"""`python -m tests.zoo [NAME ...]`: exit status 1 if any model is not the loop."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback


def main() -> int:
    """Check the models that are named, or all, and print a line for each."""
    # What a user has tuned must not choose here, nor be changed.
    os.environ["TDJAX_CACHE_DIR"] = tempfile.mkdtemp(prefix="tdjax-zoo-")
    os.environ["KERAS_BACKEND"] = "jax"
    from tests.compiling import compile_quickly

    compile_quickly()
    from tdjax.testing import assert_same_as_loop
    from tests.zoo.models import ZOO

    unknown = [name for name in sys.argv[1:] if name not in ZOO]
    if unknown:
        print(f"error: there is no {unknown[0]}; there are {', '.join(ZOO)}.", file=sys.stderr)
        return 2
    failed = []
    for name in sys.argv[1:] or ZOO:
        start, spent = time.perf_counter(), time.process_time()
        try:
            entry = ZOO[name]()
            assert_same_as_loop(entry.fun, *entry.args, **entry.options)
            if entry.trained is not None:
                check_statistics(entry.trained, *entry.args)
        except Exception:
            failed.append(name)
            traceback.print_exc()
        word = "FAILED" if name in failed else "ok"
        took, spent = time.perf_counter() - start, time.process_time() - spent
        print(f"{name:<30} {word:<6} {took:6.1f} s, {spent:6.1f} s of the CPU", flush=True)
    print(f"{len(failed)} failed{': ' if failed else ''}{', '.join(failed)}")
    return int(bool(failed))


def check_statistics(layer: object, variables: dict, x: object) -> None:
    """Assert that a wrapper in training does what the layer does with all rows as one batch."""
    import jax
    import numpy as np

    from tdjax.linen import TimeDistributed, layer_variables, wrapper_variables

    given = wrapper_variables(variables)

    def run(variables: dict, x: object) -> list:
        rows = x.reshape(-1, *x.shape[2:])
        output, state = layer.apply(variables, rows, mutable=["batch_stats"])
        answers = [(output.reshape(*x.shape[:2], -1), state)]
        for strategy in ("vmap", "fold", "auto"):
            wrapper = TimeDistributed(layer, strategy=strategy)
            output, state = wrapper.apply(given, x, mutable=["batch_stats"])
            answers.append((output, layer_variables(state)))
        return answers

    expected, *answers = jax.jit(run)(variables, x)
    for answer in answers:
        pairs = zip(*map(jax.tree.leaves, (answer, expected)), strict=True)
        for one, other in pairs:
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


if __name__ == "__main__":
    sys.exit(main())
