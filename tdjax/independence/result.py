"""What a proof says, and what it is about."""

from __future__ import annotations

import dataclasses

from tdjax.core.call import Program, Role
from tdjax.independence.kinds import Kind
from tdjax.independence.rules.rule import Step


@dataclasses.dataclass(frozen=True, eq=False)
class Proof:
    """What is known about the rows of a step function.

    Attributes:
        independent: output row i depends on input row i alone.
        reason: if not, the operation that stands in the way, with its source line.
        roles: what each leaf means to a step, where the proof had to find that out.
        outputs: for each output, where its rows are.
        steps: every equation, with where the rows of its inputs and outputs are; None if the
            equations were not followed.
    """

    independent: bool
    reason: str
    roles: tuple[Role, ...]
    outputs: tuple[Kind, ...] = ()
    steps: tuple[Step, ...] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Proven:
    """A proof with the programs it is about.

    Attributes:
        proof: the proof.
        step: the step traced on its own batch, as the loop runs it.
        block: the step traced on the rows that are to run at once; None if the proof failed.
    """

    proof: Proof
    step: Program
    block: Program | None
