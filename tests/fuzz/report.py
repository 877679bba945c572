"""Writes a failing program out as Python code that shows the failure."""

from __future__ import annotations

from .check import Failure
from .program import DATA, PREAMBLE, Program

_SHOW = """
def loop(*args):
    steps = [step(*[a if x is None else jnp.take(a, t, x) for a, x in zip(args, in_axes)])
             for t in range({time})]
    return tuple(jnp.stack(each) for each in zip(*steps))


def gradients(fun):
    inexact = [i for i, arg in enumerate(args) if jnp.issubdtype(arg.dtype, jnp.inexact)]

    def some(*parts):
        given = dict(zip(inexact, parts))
        outputs = fun(*(given.get(i, arg) for i, arg in enumerate(args)))
        return [each for each in outputs if jnp.issubdtype(each.dtype, jnp.inexact)]

    outputs, pull = jax.vjp(some, *(args[i] for i in inexact))
    return pull([jnp.asarray(array(100 + i, *y.shape), y.dtype) for i, y in enumerate(outputs)])


fun = tdjax.time_distributed(step, in_axes=in_axes, out_axes=0, strategy=tdjax.{strategy})
print(fun(*args){mask})
print(loop(*args))
print(gradients(fun))
print(gradients(loop))
"""


def code(program: Program, failure: Failure) -> str:
    """Return a script that shows a failure."""
    lines = [
        f'"""{failure.kind} under {failure.strategy}: {failure.text}"""',
        "",
        PREAMBLE,
        DATA,
        "",
    ]
    lines += [f"{const.name} = {const.code()}" for const in program.consts]
    lines += ["", program.step_code(), "", f"in_axes = {program.in_axes()}"]
    lines += [f"args = ({''.join(array.code() + ', ' for array in program.arrays)})"]
    strategy = failure.strategy.removesuffix(" with a mask")
    strategy = strategy if "(" in strategy else "Fold()"
    lines += [_SHOW.format(time=program.time, strategy=strategy, mask="")]
    return "\n".join(lines)
