"""The notebook runs from its first cell to its last, and says what it found."""

import contextlib
import io
import json
import sys
import types
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"
SIZES = "ROUNDS, STEPS = 15, 200"


def cells():
    notebook = json.loads(NOTEBOOK.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return ["".join(cell["source"]) for cell in code]


def run(sources, names):
    """Run cells as Jupyter does, without it; return what they print."""
    shown = types.SimpleNamespace(Image=lambda path, width: Path(path).stat())
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setitem(sys.modules, "IPython.display", shown)
        patch.setitem(sys.modules, "notebook", module := types.ModuleType("notebook"))
        module.__dict__.update(names)  # where Flax looks for annotations
        for source in sources:
            exec(compile(source, str(NOTEBOOK), "exec"), module.__dict__)
        names.update(module.__dict__)
    return printed.getvalue()


@pytest.mark.usefixtures("on_cpu")
def test_it_runs_from_end_to_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tdjax.comparison.api.calibrate_first", lambda progress: None)
    monkeypatch.setattr(plt, "show", plt.close)
    first, *others = cells()
    assert SIZES in first
    names = {}
    said = run([first.replace(SIZES, "ROUNDS, STEPS = 2, 30"), *others], names)
    assert " will run" in said and "reduces over the rows" in said
    assert {entry.status for entry in names["comparison"].entries} == {"ok"}
    assert (tmp_path / "is_even.png").read_bytes().startswith(b"\x89PNG")
    losses = names["losses"]
    assert len(losses) == 30 and sum(losses[-5:]) < 0.8 * sum(losses[:5])
    for strategy in ("vmap", "fold", "packed"):
        assert f"{strategy} differs in 0 of 500 rows" in said
    assert said.rstrip().endswith("measures this one in half a minute.")
    assert [path.name for path in tmp_path.iterdir()] == ["is_even.png"]


@pytest.mark.parametrize("code, ends", [(0, "for tdjax/devices.\n"), (130, "")])
def test_its_last_cell_measures_what_is_attached(monkeypatch, code, ends):
    asked = []
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr("tdjax.cli.main", lambda words: asked.append(words) or code)
    names = {"jax": jax, "device": types.SimpleNamespace(device_kind="NVIDIA H200")}
    said = run(cells()[-1:], names)
    assert asked == [["tune", "--out", "my-device.json"]]
    assert said.endswith(ends) and bool(said) == bool(ends)


def test_it_is_kept_with_what_it_showed():
    notebook = json.loads(NOTEBOOK.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    kinds = {kind for cell in code for output in cell["outputs"] for kind in output.get("data", ())}
    assert {"image/png", "text/html"} <= kinds
    outputs = [output for cell in code for output in cell["outputs"]]
    assert all(output["output_type"] != "error" for output in outputs)
    assert all(output.get("name") != "stderr" for output in outputs)
