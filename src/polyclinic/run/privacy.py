"""What a run may claim of privacy: the accounts in its checkpoints, as statements."""

from collections.abc import Iterable, Iterator

from polyclinic.config import Config
from polyclinic.federation.privacy.account import read
from polyclinic.federation.privacy.statement import statement
from polyclinic.federation.stages import Stages, StageStore
from polyclinic.run.directory import Record, RunDirectory

NOT_PRIVATE = ("local", "mim", "centralised", "contrastive", "scratch")
"""Methods whose sites send nothing that they have trained, or that no federation may use."""


def statements(
    directory: RunDirectory[Config], sites: Iterable[str]
) -> tuple[dict[str, list[Record]], list[Record]]:
    """What was spent, by method and seed: of each site's own budget, and of that of whole sites.

    Of a site that has spent nothing, because it took no part, there is no row.
    """
    privacy = directory.config.privacy
    own: dict[str, list[Record]] = {site: [] for site in sites}
    server: list[Record] = []
    if not (privacy.epsilon or privacy.site_epsilon):
        return own, server
    for method, seed, stages in _finished(directory):
        kept = [(own[site], stages.heads.get(site, {})) for site in own]
        for rows, state in [*kept, (server, stages.memory)]:
            if (account := read(state)) is not None:
                rows.append({"method": method, "seed": seed, **statement(account, privacy)})
    return own, server


def _finished(directory: RunDirectory[Config]) -> Iterator[tuple[str, int, Stages]]:
    config = directory.config
    for seed in config.seeds:
        for method in config.methods:
            folder = directory.path / f"seed-{seed}" / method
            stages = StageStore(folder, lambda _: None).latest(config.local.stages)
            if method not in NOT_PRIVATE and stages is not None:
                yield method, seed, stages
