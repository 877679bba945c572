"""The stylesheet of the HTML report: light and dark, wide and narrow."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1b2330; --soft: #5d6879; --line: #dde2ea;
  --bar: #a9b8cf; --dot: #6f83a3;
  --lead: #0f8a7e; --cut: #d9b4ab; --mark: #1b2330; --reference: #c2572b;
  --win: #0b6f65; --win-back: #d8f1ed; --tie: #1f5fa8; --tie-back: #dfecfb;
  --unstable: #8a5a00; --unstable-back: #fbeccb; --none: #a3261d; --none-back: #fbdedb;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #11151c; --card: #1a2029; --ink: #e8ecf2; --soft: #9aa6b8; --line: #2d3644;
    --bar: #4b5d7a; --dot: #8ea3c4;
    --lead: #2fb5a6; --cut: #6d4a44; --mark: #f2f5f9; --reference: #f0895d;
    --win: #6fe0d3; --win-back: #123b37; --tie: #93c2f7; --tie-back: #17304d;
    --unstable: #f3c768; --unstable-back: #42320d; --none: #ff9d94; --none-back: #4a1a16;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  font-variant-numeric: tabular-nums;
}
main { max-width: 1180px; margin: 0 auto; padding: 36px 24px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 44px 0 0; }
h3 { font-size: 15px; margin: 0; font-weight: 600; }
p { margin: 4px 0 0; }
.soft { color: var(--soft); }
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 18px 20px; margin-top: 14px;
}
.head { display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: baseline; }
.badge { padding: 1px 9px; border-radius: 99px; font-size: 13px; font-weight: 600; }
.win { color: var(--win); background: var(--win-back); }
.tie { color: var(--tie); background: var(--tie-back); }
.unstable { color: var(--unstable); background: var(--unstable-back); }
.none { color: var(--none); background: var(--none-back); }
table { border-collapse: collapse; width: 100%; margin-top: 10px; font-size: 14px; }
th {
  text-align: right; font-weight: 500; color: var(--soft); font-size: 12.5px;
  padding: 4px 10px; border-bottom: 1px solid var(--line); white-space: nowrap;
}
td { text-align: right; padding: 5px 10px; white-space: nowrap; vertical-align: middle; }
tr + tr td { border-top: 1px solid color-mix(in srgb, var(--line) 55%, transparent); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
td.left, th.left { text-align: left; white-space: normal; }
tr.lead td:first-child, tr.lead .median { font-weight: 650; color: var(--lead); }
tr.off td { color: var(--soft); }
.name { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: 13px; }
td.time { width: 38%; min-width: 170px; padding-left: 14px; }
.track { position: relative; height: 20px; overflow: hidden; }
.track > * { position: absolute; }
.bar { left: 0; top: 4px; height: 12px; border-radius: 0 3px 3px 0; background: var(--bar); }
.lead .bar { background: var(--lead); }
.off .bar {
  background: repeating-linear-gradient(135deg, var(--cut) 0 5px, transparent 5px 9px);
}
.over { border-radius: 0; clip-path: polygon(0 0, calc(100% - 8px) 0, 100% 50%,
  calc(100% - 8px) 100%, 0 100%); }
.range { top: 9px; height: 2px; background: var(--mark); }
.range::before, .range::after {
  content: ""; position: absolute; top: -3px; width: 1.5px; height: 8px; background: var(--mark);
}
.range::before { left: 0; } .range::after { right: 0; }
.dots { left: 0; top: 1px; width: 100%; height: 18px; opacity: 0.22; }
.dots path { stroke: var(--mark); stroke-width: 1px; vector-effect: non-scaling-stroke; }
.rule { top: 0; bottom: 0; width: 0; border-left: 1.5px dashed var(--reference); }
.why { font-size: 13px; white-space: normal; }
.reasons { margin: 8px 0 0; padding-left: 18px; font-size: 13.5px; color: var(--soft); }
.note { font-size: 12.5px; margin-top: 8px; }
.top { font-size: 12.5px; font-weight: 400; color: var(--soft); margin-left: 6px; }
.card, section { scroll-margin-top: 12px; }
.card:target { border-color: var(--lead); }
.matrix { width: auto; min-width: 100%; }
.matrix th, .matrix td { text-align: left; padding: 6px 14px 6px 0; vertical-align: top; }
.matrix thead th { vertical-align: bottom; }
.matrix tbody th { color: var(--ink); font-weight: 600; font-size: 14px; border: 0; }
.matrix tr + tr > th { border-top: 1px solid color-mix(in srgb, var(--line) 55%, transparent); }
.matrix thead tr + tr > th { border-top: 0; }
.matrix th:first-child { position: sticky; left: 0; background: var(--card); z-index: 1; }
.matrix wbr { display: none; }
.matrix a { color: inherit; text-decoration: none; display: block; }
.matrix a:hover .name { text-decoration: underline; }
.matrix .name { display: block; margin-top: 2px; white-space: normal; min-width: 96px; }
.key { display: inline-block; border-left: 1.5px dashed var(--reference); height: 11px;
  margin: 0 3px 0 2px; vertical-align: -1px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr));
  gap: 14px 28px; margin-top: 16px; }
.wide { grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); margin-top: 0; }
figure { margin: 0; max-width: 480px; }
.wide figure { max-width: 500px; }
h4 { margin: 0 0 4px; font-size: 13.5px; font-weight: 600; }
figcaption { font-size: 12.5px; color: var(--soft); line-height: 1.4; }
svg { display: block; width: 100%; height: auto; font-size: 11.5px; }
svg text { fill: var(--ink); } svg text.soft { fill: var(--soft); }
svg .label { paint-order: stroke; stroke: var(--card); stroke-width: 3px; stroke-linejoin: round; }
svg .label.ahead { fill: var(--lead); font-weight: 650; }
svg path, svg polyline { fill: none; }
.grid { stroke: var(--line); stroke-width: 0.8; }
.axis { stroke: var(--soft); stroke-width: 1; }
.course { stroke: var(--dot); stroke-width: 1.4; opacity: 0.75; }
.course.ahead { stroke: var(--lead); stroke-width: 2.4; opacity: 1; }
.free { stroke: var(--reference); stroke-width: 1.4; stroke-dasharray: 5 4; }
svg text.free { fill: var(--reference); stroke-dasharray: none; }
.front { stroke: var(--lead); stroke-width: 1.2; stroke-dasharray: 4 3; opacity: 0.8; }
.roof { stroke: var(--reference); stroke-width: 1.6; }
.interval { stroke: var(--mark); stroke-width: 1.2; }
.tether { stroke: var(--soft); stroke-width: 0.7; }
svg .point { fill: var(--dot); stroke: var(--card); stroke-width: 1; }
svg .point.ahead { fill: var(--lead); }
svg .point.bound { fill: var(--card); stroke: var(--dot); stroke-width: 1.8; }
svg .point.bound.ahead { stroke: var(--lead); }
svg .point.cut { fill: none; stroke: var(--reference); stroke-width: 2; }
details { margin-top: 12px; }
summary { cursor: pointer; color: var(--soft); font-size: 13.5px; }
.scroll { overflow-x: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 18px; margin: 10px 0 0;
  font-size: 14px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media print {
  :root { color-scheme: light; }
  body { background: none; }
  .card { break-inside: avoid; } .top { display: none; }
  * { print-color-adjust: exact; }
}
@media (max-width: 980px) {
  table.rows .bounds { display: none; }
}
@media (max-width: 720px) {
  main { padding: 22px 14px 40px; }
  h1 { font-size: 23px; }
  .card { padding: 14px; }
  table.rows thead { display: none; }
  table.rows tr { display: flex; flex-wrap: wrap; gap: 0 12px; padding: 8px 0; }
  table.rows td { padding: 0; border: 0; white-space: normal; }
  table.rows tr + tr { border-top: 1px solid var(--line); }
  table.rows td.time { flex: 0 0 100%; width: auto; order: 4; }
  table.rows td.name { order: 1; flex: 1; } table.rows td.median { order: 2; }
  table.rows td.ratio { order: 3; min-width: 44px; }
  table.rows td.fact { order: 5; text-align: left; font-size: 12.5px; color: var(--soft); }
  table.rows td.fact::before { content: attr(data-label) " "; }
  .matrix th, .matrix td { padding-right: 8px; }
  .matrix wbr { display: inline; } .matrix th { white-space: normal; }
  .matrix tbody th { font-size: 13px; }
  .matrix .name { min-width: 0; font-size: 12px; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 6px; }
}
"""
