"""Files damaged at one place: a value of another type, missing, huge, hostile, or cut bytes."""

import copy
import json
import random

SCRIPT = "<script>alert(1)</script>"
VALUES = (
    None, True, -1, 0, 0.5, 7, 1e308, 1e-320, 10**400, float("nan"), float("inf"), "", "x",
    SCRIPT, f'" onload="alert(1){SCRIPT}', "[/b]", "$\\frac$", "x" * 5000, "\ud800", "\0", [], {},
    [None], ["x", 1], {"x": 1}, {SCRIPT: SCRIPT},
)  # fmt: skip


def places(content, path=()):
    """Yield the path to every value."""
    steps = content if isinstance(content, dict) else range(len(content))
    for step in steps:
        yield (*path, step)
        if isinstance(content[step], (dict, list)):
            yield from places(content[step], (*path, step))


def damaged(content, path, value):
    """Return the text of a file whose value at a place is another one; without it if `...`."""
    content = copy.deepcopy(content)
    inner = content
    for step in path[:-1]:
        inner = inner[step]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return json.dumps(content)


def random_damage(text, seed):
    """Return the bytes of a file that is damaged at one random place."""
    chance = random.Random(seed)
    if chance.random() < 0.2:
        data, place = text.encode(), chance.randrange(len(text))
        put = chance.choice((b"", b"\xff", b"\0", b"[" * 100_000))
        return data[:place] + put + (data[place + 1 :] if put else b"")
    content = json.loads(text)
    path = chance.choice(list(places(content)))
    return damaged(content, path, chance.choice((..., *VALUES))).encode()
