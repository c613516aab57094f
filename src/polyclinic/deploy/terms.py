"""What a site agrees to by joining, in words: a line for each part of its `Agreement`."""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from polyclinic.deploy.agreement import Agreement, promise

Mark = Literal["good", "warning", "wrong", "agreed"]


@dataclass(frozen=True)
class Checked:
    """One thing that a site is told before it joins."""

    mark: Mark
    what: str
    text: str


def terms(agreement: Agreement, site: str) -> Iterator[Checked]:
    """All that `site` agrees to; a warning where a lying server would not be noticed."""
    others = [name for name in agreement.sites if name != site]
    data = agreement.data
    most = data.max_train_images
    yield _agreed("other sites", ", ".join(others) or "none")
    yield _agreed("methods", ", ".join(agreement.methods))
    yield _agreed("seeds", ", ".join(map(str, agreement.seeds)))
    yield _agreed("stages", f"{agreement.stages} of each method and seed")
    yield _agreed(
        "images",
        f"fitted into {data.image_size} px, of segmentation {data.largest_side} px at most; up to "
        f"{100 * data.max_unreadable:g} % may be unreadable",
    )
    yield _agreed(
        "split",
        f"{100 * data.val_share:g} % to validate, {100 * data.test_share:g} % to test, drawn with "
        f"seed {data.split_seed}; "
        + (f"at most {most} images to train on" if most else "all others to train on"),
    )
    yield _agreed("training", _training(agreement))
    yield _agreed("what leaves", _leaves(agreement))
    yield _agreed("scores", _scores(agreement))
    yield privacy(agreement)
    yield aggregation(agreement)
    yield comparison(agreement)


def privacy(agreement: Agreement) -> Checked:
    """What will be spent, and whether what is needed for it is there."""
    budget = agreement.privacy
    text = promise(budget, agreement.trainings)
    if budget.site_epsilon:
        text += (
            "; the server says that it adds noise for whole sites, epsilon "
            f"{budget.site_epsilon:g} (a site cannot check that)"
        )
    if budget.epsilon and importlib.util.find_spec("opacus") is None:
        return Checked("wrong", "privacy", f"{text}; install polyclinic[privacy]")
    return _agreed("privacy", text)


def aggregation(agreement: Agreement) -> Checked:
    """Whether the server sees the site's change, or the sum alone."""
    if agreement.federation.secure:
        return _agreed(
            "aggregation",
            f"secure: the server sees the sum of {agreement.threshold} sites or more of "
            f"{len(agreement.sites)}, once `polyclinic site roster` was confirmed",
        )
    text = "open: the server sees this site's change"
    if _in_turn(agreement):
        text += ", and the next site is sent the encoder that this one has trained"
    return _agreed("aggregation", text)


def comparison(agreement: Agreement) -> Checked:
    """Whether sites would notice that the server sends one of them an encoder of its own."""
    federation, sites = agreement.federation, len(agreement.sites)
    if federation.secure:
        text = "sites that are sent different encoders share no key, and no sum comes out"
        return _agreed("comparison", text)
    if federation.echo:
        return _agreed(
            "comparison",
            f"it trains an encoder that {federation.echo} of {sites} sites have signed, once "
            "`polyclinic site roster` was confirmed",
        )
    text = (
        "off: a lying server could send this site an encoder of its own, whose change shows more "
        "of the site's images"
    )
    if _in_turn(agreement):
        return Checked("warning", "comparison", f"{text}; in turn there is nothing to compare")
    return Checked(
        "warning",
        "comparison",
        f"{text}; the coordinator turns it on with federation.echo = {sites // 2 + 1} in the "
        "federation's file, and invites anew",
    )


def _training(agreement: Agreement) -> str:
    local = agreement.local
    steps = f"{local.min_steps} to {local.max_steps or 'any number of'} batches"
    times = f", {local.epochs} times" if local.epochs != 1 else ""
    return (
        f"a stage is {steps} of {local.batch_size} images{times}, at a learning rate of "
        f"{local.learning_rate:g} that falls; for one encoder a stage"
    )


def _leaves(agreement: Agreement) -> str:
    numbers = (
        "no number of its images"
        if agreement.privacy.epsilon
        else "how many images it trains on, its loss and two validation scores"
    )
    change = "masked" if agreement.federation.secure else f"in {agreement.federation.wire}"
    return f"each stage, the change of the encoder's weights, {change}, and {numbers}"


def _scores(agreement: Agreement) -> str:
    if agreement.privacy.epsilon:
        return "none is told"
    return (
        "two of one encoder of each training, on the site's test images, are told, unless it joins "
        "with --keep-scores"
    )


def _in_turn(agreement: Agreement) -> bool:
    return agreement.universal.exchange == "cyclic" and "universal" in agreement.methods


def _agreed(what: str, text: str) -> Checked:
    return Checked("agreed", what, text)
