"""Images that differ from nearly all others in size, bit depth or colour."""

from collections import Counter
from collections.abc import Sequence

from polyclinic.data.checks.check import Check, FileFacts, ImageFacts, Survey
from polyclinic.data.dataset import Finding

COMMON = 0.9
"""What at least this share of the images have is the rule, and the others are exceptions."""


def run(survey: Survey) -> Sequence[Finding]:
    """For size, bits and colour: a finding for every exception, or one where there is no rule."""
    files = {file.name: file for file in survey.files}
    rows = [
        (survey.item(row).key, survey.images[row], files.get(survey.item(row).key))
        for row in survey.readable
    ]
    return [
        *_exceptions("size", [(key, _size(image)) for key, image, _ in rows]),
        *_exceptions("bit depth", [(key, _bits(file)) for key, _, file in rows]),
        *_exceptions("colour", [(key, _colour(image)) for key, image, _ in rows]),
    ]


def _size(image: ImageFacts) -> str:
    return f"{image.shape[1]} x {image.shape[0]} px"


def _bits(file: FileFacts | None) -> str:
    return f"{file.bits} bits" if file and file.bits else "8 bits"


def _colour(image: ImageFacts) -> str:
    return "grey" if image.channels == 1 else "colour"


def _exceptions(what: str, values: Sequence[tuple[str, str]]) -> list[Finding]:
    counts = Counter(value for _, value in values)
    if len(counts) < 2:
        return []
    usual, count = counts.most_common(1)[0]
    if count < COMMON * len(values):
        shown = ", ".join(f"{value} ({n})" for value, n in counts.most_common(4))
        more = f" and {len(counts) - 4} more" if len(counts) > 4 else ""
        return [Finding("info", "", f"images differ in {what}: {shown}{more}")]
    do = "see whether it belongs here"
    return [
        Finding("warning", key, f"is {value}; {count} others are {usual}", do)
        for key, value in values
        if value != usual
    ]


CHECK = Check("format", "sizes, bit depths and colours that differ", run)
