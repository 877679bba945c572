"""Masks that keep a part of all steps."""

import numpy as np

from tdjax.comparison.hlo import Steps
from tdjax.comparison.subjects.thinned_masks import thinned


def test_a_thinned_mask_keeps_what_was_real_first():
    given = np.zeros((4, 6), bool)
    given[1:3, 2] = True
    for part, count in ((1 / 12, 2), (0.5, 12), (1.0, 24)):
        mask = thinned(given, Steps(batch=4, time=6), part)
        assert mask.sum() == count and mask[given].all()
    assert thinned(given, Steps(batch=4, time=6), 1 / 24).sum() == 1
    assert (thinned(None, Steps(4, 6), 0.5) == thinned(None, Steps(4, 6), 0.5)).all()
