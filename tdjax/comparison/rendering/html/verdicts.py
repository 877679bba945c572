"""The top of the report: every workload on every target, with links to the details."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from tdjax.comparison import numbers
from tdjax.comparison.verdicts import naming
from tdjax.comparison.verdicts.entry import Group
from tdjax.comparison.verdicts.metric import CYCLES
from tdjax.comparison.verdicts.records import Record
from tdjax.comparison.verdicts.verdict import Verdict


def matrix(comparison: Record, anchors: Mapping[Group, str]) -> str:
    """Return the verdicts as a table: a row a workload, a column a target and mode.

    Args:
        comparison: what is shown.
        anchors: the id of each group's section.
    """
    verdicts = {verdict.group: verdict for verdict in comparison.verdicts}
    rows = list(dict.fromkeys(group.workload for group in anchors))
    targets = list(dict.fromkeys((group.target, group.evidence) for group in anchors))
    columns = [
        (target, evidence, mode)
        for target, evidence in targets
        for mode in naming.MODE_TITLES
        if any(group[1:] == (target, evidence, mode) for group in anchors)
    ]
    body = ""
    for workload in rows:
        cells = ""
        for column in columns:
            group = Group(workload, *column)
            cells += _cell(verdicts.get(group), anchors.get(group), comparison.reference)
        name = escape(workload).replace("_", "_<wbr>")
        body += f'<tr><th scope="row">{name}</th>{cells}</tr>'
    over = "".join(
        f'<th colspan="{sum(column[:2] == (target, evidence) for column in columns)}">'
        f'{escape(target)} <span class="soft">{escape(evidence)}</span></th>'
        for target, evidence in targets
    )
    under = "".join(f"<th>{naming.MODE_TITLES[column[2]]}</th>" for column in columns)
    return (
        '<div class="card"><h3>Verdicts</h3><div class="scroll"><table class="matrix"><thead>'
        f'<tr><th rowspan="2">workload</th>{over}</tr><tr>{under}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{_legend(comparison)}</div>"
    )


def badge(verdict: Verdict) -> str:
    """Return the verdict in a word, coloured."""
    kind = escape(verdict.kind)
    return f'<span class="badge {kind}">{kind}</span>'


def _cell(verdict: Verdict | None, anchor: str | None, reference: str) -> str:
    if verdict is None or anchor is None:
        return f'<td class="soft">{numbers.UNKNOWN}</td>'
    ahead = "" if verdict.leader == reference else _ahead(verdict)
    return (
        f'<td><a href="#{anchor}">{badge(verdict)} {ahead}'
        f'<span class="name">{escape(verdict.fastest())}</span></a></td>'
    )


def _ahead(verdict: Verdict) -> str:
    """Return the leader's speed against the reference, or what it saves where nothing ran."""
    factor = verdict.saving if verdict.evidence == "compiled" else verdict.speedup
    if factor is None:
        return ""
    bounds = ""
    if verdict.speedup_low is not None and verdict.speedup_low != verdict.speedup_high:
        bounds = f' title="{verdict.speedup_low:.2f} to {verdict.speedup_high:.2f}"'
    unit = ""
    if verdict.evidence == "compiled":
        unit = f'<span class="soft"> {"cycles" if verdict.metric == CYCLES else "bytes"}</span>'
    return f"<b{bounds}>{factor:.2f}x</b>{unit}"


def _legend(comparison: Record) -> str:
    reference = escape(comparison.reference)
    measured = any(verdict.evidence == "measured" for verdict in comparison.verdicts)
    compiled = any(verdict.evidence == "compiled" for verdict in comparison.verdicts)
    said = []
    if measured:
        said.append(f"Measured: how many times as fast as {reference} the fastest is.")
    if compiled:
        said.append(
            f"Compiled: how many times the leader's cycles or bytes {reference} takes; no times."
        )
    return f'<p class="soft note">{" ".join(said)}</p>'
