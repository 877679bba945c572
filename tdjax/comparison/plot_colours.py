"""The colours of the pictures, those of the report on a light page."""

LEAD, BAR, CUT, REFERENCE = "#0f8a7e", "#a9b8cf", "#e3cdc7", "#c2572b"
DOT, INK, SOFT, LINE = "#6f83a3", "#1b2330", "#5d6879", "#dde2ea"
