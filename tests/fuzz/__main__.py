"""`python -m tests.fuzz --minutes N --seed S`: exit status 1 if anything is wrong.

With `--mutation NAME` it is 1 if nothing is: what keeps wrong proofs out was taken back.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any


def main() -> int:
    """Run for some minutes, print what is wrong and the counts."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", default="0", help="programs are those of this seed, in order")
    parser.add_argument("--only", help="check the program of one seed alone, as it was printed")
    parser.add_argument("--no-shrink", action="store_true", help="print programs as they failed")
    parser.add_argument("--stop", action="store_true", help="stop at the first wrong answer")
    parser.add_argument("--mutation", help="take one thing back, and look whether it is found")
    options = parser.parse_args()

    # What a user has tuned must not choose here, nor be changed.
    os.environ["TDJAX_CACHE_DIR"] = tempfile.mkdtemp(prefix="tdjax-fuzz-")
    from tests.compiling import compile_quickly

    compile_quickly()
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    from . import mutations, report, session

    if options.mutation is not None:
        mutations.MUTATIONS[options.mutation]()
        options.stop = options.no_shrink = True
    ends = time.monotonic() + 60 * options.minutes

    def seeds() -> Iterator[Any]:
        for count in itertools.count():
            if time.monotonic() > ends:
                return
            yield f"{options.seed}-{count}"

    def found(seed: Any, program: Any, failure: Any) -> bool:
        print(f"\n=== seed {seed} after {time.monotonic() - started:.0f} s\n")
        print(report.code(program, failure), flush=True)
        return not (options.stop and failure.kind != "refused without need")

    started = time.monotonic()
    chosen = seeds() if options.only is None else [options.only]
    summary = session.run(chosen, not options.no_shrink, found)
    print(summary)
    wrong = any(each.kind != "refused without need" for *_, each in summary.failures)
    return int(bool(summary.failures) if options.mutation is None else not wrong)


if __name__ == "__main__":
    sys.exit(main())
