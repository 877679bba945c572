"""A workload takes a file, such as this one, and a line that registers it."""

import json
import re

import jax.numpy as jnp
import pytest

from tdjax import workloads
from tdjax.cli import main
from tdjax.comparison import Comparison


def build(quick):
    """Return sines of (2, 3, 4) steps, or of (8, 16, 32)."""
    shape = (2, 3, 4) if quick else (8, 16, 32)
    steps = jnp.arange(float(shape[0] * shape[1] * shape[2])).reshape(shape)
    return workloads.Case(jnp.sin, (steps,), in_axes=1, time_size=shape[1])


def picture(axes, quick):
    DRAWN.append(quick)
    axes.plot([0, 1], [0, 1])
    return "A line."


DRAWN = []


TOY = workloads.Workload("toy", "Toy", "Sines of (8, 16, 32) steps.", build, picture)


@pytest.fixture(autouse=True)
def registered():
    before = workloads.names()
    workloads.register(TOY)
    yield
    workloads.unregister("toy")
    assert workloads.names() == before


def test_it_is_listed_and_built(capsys):
    assert workloads.names()[-1] == "toy" and workloads.get("toy") is TOY
    assert workloads.get("toy").build(True).args[0].shape == (2, 3, 4)
    with pytest.raises(ValueError, match=r"'tiy', but needed one of .*toy"):
        workloads.get("tiy")
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    assert "toy" in capsys.readouterr().out


def test_it_is_compared_and_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = "compare toy --quick --strategies vmap,fold --mode forward --rounds 3 --out here"
    assert main(words.split()) == 0
    assert "toy, forward, measured on cpu" in capsys.readouterr().out
    found = Comparison.load(tmp_path / "here" / "comparison.json")
    assert [(e.workload, e.strategy, e.status) for e in found.entries] == [
        ("toy", "vmap", "ok"),
        ("toy", "fold", "ok"),
    ]
    assert found.workloads == {"toy": "a small version of it, on (2, 3, 4)"}
    assert (tmp_path / "here" / "toy.png").read_bytes().startswith(b"\x89PNG")
    assert DRAWN == [True]


def test_it_is_tuned_and_speeds_are_fitted_to_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TDJAX_CACHE_DIR", str(tmp_path))
    words = ["tune", "toy", "--strategies", "vmap,fold", "--mode", "forward", "--out"]
    assert main([*words, str(tmp_path / "device.json")]) == 0
    assert re.search("toy forward: (fold|vmap)", capsys.readouterr().out)
    (result,) = json.loads((tmp_path / "device.json").read_text())["results"]
    assert (result["title"], result["sizes"]) == ("toy", [8, 16])


def test_one_that_is_unseen_runs_beside_rivals_only():
    seen = workloads.names()
    workloads.register(workloads.Workload("large", "Large", "A large toy.", build, unseen=True))
    try:
        assert workloads.unseen()[-1] == "large" and workloads.names() == seen
    finally:
        workloads.unregister("large")


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="'dense' is registered already"):
        workloads.register(workloads.Workload("dense", "Dense", "Another one.", build))
