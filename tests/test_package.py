"""What is published: the license, the versions, and a description that holds without the files."""

import re
import tomllib
from pathlib import Path

import tdjax

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
CODE = re.compile(r"```.*?```", re.DOTALL)


def long_description(text):
    """Make the long description of a README, as hatch-fancy-pypi-readme does."""
    made = PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    for substitution in made["substitutions"]:
        text = re.sub(substitution["pattern"], substitution["replacement"], text)
    return text


def test_nothing_in_the_long_description_needs_the_repository():
    readme = (ROOT / "README.md").read_text()
    text = long_description(readme)
    assert CODE.findall(text) == CODE.findall(readme)
    words = CODE.sub("", text)
    assert re.findall(r"\]\((?!https?:|#)[^)]*\)", words) == []
    assert re.findall(r"(?:src|srcset|href)=\"(?!https?:|#)[^\"]*\"", words) == []
    assert len(words) > 0.5 * len(CODE.sub("", readme))


def test_what_has_no_address_is_left_out_of_it_and_the_rest_stays():
    assert long_description('see [the guide](examples/a.md), [b](a.md#b "c").') == (
        "see the guide, b."
    )
    stays = "[a](https://b.org) ![c](https://b.org/c.png) [d](#d)\n```\nf[0](x)\ng()[1](y)\n```\n"
    assert long_description(stays) == stays
    picture = '<picture>\n  <source srcset="a.png">\n  <img alt="a" src="a.png">\n</picture>'
    pictures = f'{picture}\n\n![a](a.png)\n\n<img alt="b" src="b.png" width="3">\n\nWords.'
    assert long_description(pictures) == "Words."
    assert long_description(picture.replace("a.png", "https://b.org/a.png")) != ""


def test_the_license_is_in_the_package():
    (path,) = PROJECT["license-files"]
    assert "Apache License" in (ROOT / path).read_text()
    assert Path(path).parts[0] == "tdjax"


def test_versions_are_said_once():
    assert "version" in PROJECT["dynamic"] and "version" not in PROJECT
    written = ROOT / PYPROJECT["tool"]["hatch"]["version"]["path"]
    assert f'"{tdjax.__version__}"' in written.read_text()
    changes = (ROOT / "examples" / "guide" / "changelog.md").read_text()
    assert re.findall(r"^## (\S+)", changes, re.MULTILINE)[0] == tdjax.__version__
    lowest = {re.match(r"[\w-]+", each)[0]: each.split(">=")[1] for each in PROJECT["dependencies"]}
    python = PROJECT["requires-python"].removeprefix(">=")
    for name, version in {"Python": python, "JAX": lowest["jax"], "Flax": lowest["flax"]}.items():
        assert re.search(rf"\| {name} \| {re.escape(version)}(\.0)? \|", changes), name
    supported = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if ":: 3." in each]
    assert supported[0] == python
    assert re.search(rf"\| Python \| \S+ \| {re.escape(supported[-1])} \|", changes)
    assert lowest["jaxlib"] == lowest["jax"]


def test_the_citation_is_of_this_package():
    citation = (ROOT / ".github" / "CITATION.cff").read_text()
    (author,) = PROJECT["authors"]
    for line in (
        "cff-version: 1.2.0",
        f"- name: {author['name']}",
        f"license: {PROJECT['license']}",
    ):
        assert line in citation
    assert "version:" not in citation.replace("cff-version:", "")  # it is said in one place
