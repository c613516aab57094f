"""The report's plots as files that stand alone."""

STYLE = """
svg { background: #fff; font-family: system-ui, sans-serif; font-size: 12px; }
text { fill: #222; } .tick, .axis { fill: #666; font-size: 10.5px; }
.grid { stroke: #e3e3e3; } .zero { stroke: #666; stroke-dasharray: 3 3; }
.up { --c: #19734a; } .down { --c: #a63d2f; } .open { --c: #667; }
.m0 { --c: #0a6fae; } .m1 { --c: #b87700; }
.whisker { stroke: var(--c); stroke-width: 2; } .dot { fill: var(--c); stroke: var(--c); }
.hollow { fill: #fff; }
.line { fill: none; stroke: var(--c); stroke-width: 2; } .mark { fill: var(--c); }
"""
"""The report's own classes."""


def standalone(plot: str) -> str:
    """A plot of `polyclinic.report.plots` as the text of an SVG file."""
    opened, rest = str(plot).split(">", 1)
    begin = opened.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return f"{begin}><style>{STYLE}</style>{rest}\n"
