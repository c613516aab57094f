"""The result of `peers.py` as Markdown, for docs/benchmarks.md."""

from typing import Any

from markdown_table import table

NAMES = {
    "polyclinic": "in process",
    "flower": "Flower simulation",
    "nvflare": "NVFlare simulator",
}
_MEASURED = (
    "Workers × threads",  # noqa: RUF001
    "Engine",
    "Whole process, s",
    "Before the first step, s",
    "A round, s",
    "Memory, MiB",
    "Bytes a round, MB",
    "Same weights",
)
_WRITTEN = ("Engine", "Commands", "Settings", "Lines of configuration", "Lines of Python")


def markdown(result: dict[str, Any]) -> str:
    """What was measured, and what a user writes, as two tables."""
    measured = [
        (f"{layout['workers']} × {layout['threads_a_worker']}", *_row(layout, engine))  # noqa: RUF001
        for layout in result["layouts"]
        for engine in layout["medians"]
    ]
    written = [
        (
            NAMES[engine],
            *(str(len(own[key])) for key in ("commands", "settings")),
            *(str(own[key]) for key in ("configuration_lines", "python_lines")),
        )
        for engine, own in result["written_by_a_user"].items()
    ]
    return f"{table(_MEASURED, measured)}\n\n{table(_WRITTEN, written)}"


def _row(layout: dict[str, Any], engine: str) -> tuple[str, ...]:
    median = layout["medians"][engine]
    return (
        NAMES[engine],
        f"{median['wall_seconds']:.0f}",
        f"{median['seconds_before_first_step']:.1f}",
        f"{median['seconds_a_round']:.1f}",
        f"{median['peak_proportional_mib']:,.0f}",
        f"{median['bytes_a_round'] / 1e6:.1f}",
        _same(layout["same_weights_as_polyclinic"].get(engine)),
    )


def _same(agreement: dict[str, Any] | None) -> str:
    if agreement is None:
        return ""
    if agreement["bit_identical"]:
        return "to the last bit"
    return f"differ by up to {agreement['largest_difference']:.1g}"
