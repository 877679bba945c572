"""A figure of matplotlib as SVG: small, the same each time, with tooltips."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

_MARK = "tdjax "
_MARKED = re.compile(rf'<g id="{_MARK}([^|"]*)\|([^"]*)">')
# What nobody sees, in the order in which it can be taken out.
_UNSEEN = (
    r"^.*?(?=<svg )",
    r"<!--.*?-->",
    r"<metadata>.*?</metadata>",
    r"<defs>\s*<style.*?</style>\s*</defs>",
    r' id="[a-z][\w.]*_\d+"',
    r' transform="rotate\(-0 [^"]*"',
    r"font-family: [^;\"]*;? ?",
    r"; stroke-linecap: square",
    r"(?<=>)\s+(?=<)",
    r"<g/>",
)
# What matplotlib repeats in every element.
_SHARED = '<svg stroke-linejoin="round" font-family="DejaVu Sans, Verdana, sans-serif" '


def marked(classes: str, tooltip: str = "") -> str:
    """Return the gid of an artist whose element is to have these classes and this tooltip."""
    return f"{_MARK}{classes}|{tooltip}"


def to_svg(figure: Any, name: str, background: str = "none") -> str:
    """Return a figure as an SVG element.

    Args:
        figure: of matplotlib.
        name: what makes the ids in it differ from those of other figures on the same page.
        background: its color.
    """
    from matplotlib import rc_context

    stream = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(stream, format="svg", metadata={"Date": None}, facecolor=background)
    text = stream.getvalue()
    for unseen in _UNSEEN:
        text = re.sub(unseen, "", text, flags=re.DOTALL)
    text = re.sub(r'(?<= )(?:d|x|y|width|height|transform)="[^"]*"', _rounded, text)
    text = re.sub(r"<g>(<text [^>]*>[^<]*</text>|<path [^>]*/>)</g>", r"\1", text)
    return _MARKED.sub(_group, text).replace("<svg ", _SHARED, 1)


def in_dark(svg: str, colors: Mapping[str, str]) -> str:
    """Return a picture in which a browser's dark mode replaces these colors.

    What knows no media queries shows it as it is.
    """
    rules = [
        f'[style*="{kind}: {light}"]{{{kind}:{dark}!important}}'
        for light, dark in colors.items()
        for kind in ("fill", "stroke")
    ]
    query = f"@media(prefers-color-scheme:dark){{{''.join(rules)}}}"
    return re.sub(r"(<svg [^>]*>)", rf"\1<style>{query}</style>", svg, count=1)


def _rounded(attribute: re.Match[str]) -> str:
    text = re.sub(r"\d+\.\d\d+", lambda found: f"{float(found[0]):.1f}", attribute[0])
    return re.sub(r"\s+(?=[A-Za-z\"])", "", text)


def _group(found: re.Match[str]) -> str:
    tooltip = f"<title>{found[2]}</title>" if found[2] else ""
    return f'<g class="{found[1]}">{tooltip}'
