"""What a reader of the report must know of how its numbers were made."""

from tdjax.comparison.verdicts.standing import TIE_WIDTH, WIN_MARGIN

METHOD = (
    "Every strategy was traced, lowered, compiled and first called apart from the samples. "
    "Samples were taken in rounds, each candidate once a round in random order; a bar is the "
    "median, the whisker its 95% bootstrap interval, a thin line one sample. The arrays that have "
    "a time axis take turns with copies of themselves that fill the last cache twice, so that a "
    "call does not find its input where the call before left it. One sample is a call, or as many "
    "as take 10 ms. A candidate that is far behind leaves after a few rounds.",
    "Ratios are taken round by round, and their interquartile mean is told, with its bootstrap "
    f"interval. A win leads by more than {WIN_MARGIN - 1:.0%} with its whole interval, in the "
    f"first half of the rounds and in the second; a tie is within {WIN_MARGIN - 1:.0%}, its "
    f"interval within {TIE_WIDTH - 1:.0%}; what is neither is unstable. Rounds go on until it is "
    "one of the two, or the time is used up. The error is the largest difference from the "
    "reference's answer, relative to the largest value in that array.",
    "A device that is not here was compiled for, by its own compiler: nothing ran, and what "
    "leads does so by the compiler's estimate of cycles (TPUs) or by the bytes that the program "
    "accesses, with loops counted as often as they run. Neither is a time.",
    "Temporary memory is what the compiled program allocates beside its arguments and results. "
    "Peak memory is that of a process of its own that runs only this candidate: its arguments, "
    "and what the first call adds to them.",
    "A roofline sets the flops a second that a program reaches against its flops a byte, both "
    "counted in the optimised program. Under the slope memory limits it, under the flat roof "
    "arithmetic does. The bytes are those that the operations read and write; what stays in "
    "caches does not go to memory, so that a point can lie above the slope. The roofs of a device "
    "that is here were measured; those of another one are its maker's figures, for bfloat16.",
)
