"""The page as a whole: self-contained, complete, safe, deterministic, and its errors."""

import json
import os
import re
from collections.abc import Callable
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from polyclinic.errors import RunError
from polyclinic.report import results_schema, write_report

VOID = {"meta", "img", "br", "link", "input", "hr"}
LISTS = [
    "scores",
    "gains",
    "comparisons",
    "communication",
    "timing",
    "participation",
    "curves",
    "confusion",
    "examples",
]


class Page(HTMLParser):
    """Checks that tags nest, and collects attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, key, value or "") for key, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def parse(html: str) -> Page:
    page = Page()
    page.feed(html)
    page.close()
    assert page.open == []
    return page


Sample = Callable[..., dict[str, Any]]
Write = Callable[[Path, dict[str, Any]], Path]
Report = Callable[[Path, dict[str, Any]], str]


@pytest.fixture(scope="module")
def report(write_sample: Write) -> Report:
    return lambda folder, results: write_report(write_sample(folder, results)).read_text("utf-8")


@pytest.fixture(scope="module")
def html(report: Report, sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> str:
    return report(tmp_path_factory.mktemp("run"), sample())


def test_the_sample_follows_the_schema(sample: Sample) -> None:
    schema = results_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(sample(), schema)
    assert datetime.fromisoformat(sample()["created"])


@pytest.mark.parametrize("key", [*LISTS, "encoder", "corpus", "config"])
def test_a_finished_run_needs_everything_and_an_unfinished_one_not(
    key: str, sample: Sample
) -> None:
    results = sample(sites=1)
    del results[key]
    with pytest.raises(jsonschema.ValidationError, match=f"'{key}' is a required property"):
        jsonschema.validate(results, results_schema())
    jsonschema.validate({**results, "finished": False}, results_schema())


def test_the_schema_refuses_unknown_fields(sample: Sample) -> None:
    results = sample(sites=1)
    results["scores"][0]["extra"] = 1
    with pytest.raises(jsonschema.ValidationError, match="extra"):
        jsonschema.validate(results, results_schema())


def test_the_documentation_names_every_field() -> None:
    text = (Path(__file__).parents[2] / "docs/results.md").read_text(encoding="utf-8")
    schema = results_schema()
    names = set(schema["properties"])
    for rule in schema["$defs"].values():
        names |= set(rule.get("properties", {}))
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


def test_the_page_needs_nothing_from_outside(html: str) -> None:
    page = parse(html)
    for tag, key, value in page.attributes:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        if key in ("src", "href", "xlink:href", "action", "srcset", "poster"):
            assert value.startswith(("#", "data:image/png;base64,")), (tag, key, value[:60])
    assert "url(" not in html
    assert "@import" not in html
    assert not re.search(r"https?://", html)
    assert "default-src 'none'" in html


def test_every_site_method_and_section_is_there(html: str, sample: Sample) -> None:
    page = parse(html)
    for site in sample()["sites"]:
        assert site["name"] in page.text
    for method in sample()["methods"]:
        assert method["title"] in page.text
        assert method["summary"] in page.text
    ids = [value for _, key, value in page.attributes if key == "id"]
    assert len(ids) == len(set(ids))
    linked = {v[1:] for _, key, v in page.attributes if key == "href" and v.startswith("#")}
    assert linked <= set(ids)
    labels = {i for _, k, v in page.attributes if k == "aria-labelledby" for i in v.split()}
    assert labels <= set(ids)
    assert "no answer within 60 s" in page.text
    assert "the same pixels as benign/003.png" in page.text
    assert html.count("data:image/png;base64,") == 6 * 4 + 2 * 2 * 2
    assert "picture missing" not in html


def test_tables_and_plots_are_accessible(html: str) -> None:
    assert '<html lang="en">' in html
    assert re.findall(r"<th(?![a-z])(?![^>]*scope=)[^>]*>", html) == []
    plots = re.findall(r"<svg[^>]*>", html)
    assert all("aria-hidden" in svg or "aria-labelledby" in svg for svg in plots)


def test_the_same_input_gives_the_same_bytes(
    tmp_path: Path, report: Report, sample: Sample
) -> None:
    results = sample(sites=2)
    assert report(tmp_path / "a", results) == report(tmp_path / "b", results)
    again = write_report(tmp_path / "a").read_bytes()
    assert again == (tmp_path / "b/report.html").read_bytes()
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "examples",
        "report.html",
        "results.json",
    ]


def test_names_from_others_are_escaped(tmp_path: Path, report: Report, sample: Sample) -> None:
    bad = "<script>alert(1)</script>\"'&"
    text = json.dumps(sample()).replace('"breast"', json.dumps(bad))
    text = text.replace('"malignant"', json.dumps(bad)).replace('"Universal (ours)"', '"<b>U</b>"')
    text = text.replace("no answer within 60 s", "<img src=x onerror=alert(1)>")
    html = report(tmp_path, json.loads(text))
    assert html.count("<script>") == 1
    assert "<b>U</b>" not in html
    assert "<img src=x" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    page = parse(html)
    assert bad in page.text
    assert not [key for _, key, _ in page.attributes if key.startswith("on")]


def test_an_unfinished_run_is_shown_under_a_banner(
    tmp_path: Path, report: Report, sample: Sample
) -> None:
    whole = sample()
    first = ["schema", "name", "version", "created", "quick", "seeds", "sites", "methods"]
    page = parse(report(tmp_path, {**{key: whole[key] for key in first}, "finished": False}))
    assert "This run has not finished." in page.text
    assert "holds no gain of Universal (ours)" in page.text
    assert "No traffic has been recorded." in page.text
    assert "glioma" in page.text


@pytest.mark.parametrize("key", LISTS)
def test_any_section_may_be_empty(key: str, tmp_path: Path, report: Report, sample: Sample) -> None:
    parse(report(tmp_path, {**sample(sites=2, seeds=(0,)), key: []}))


def test_a_finished_run_has_no_banner(html: str) -> None:
    assert 'class="banner"' not in html


def test_a_quick_run_says_so(tmp_path: Path, report: Report, sample: Sample) -> None:
    assert "Do not draw conclusions" in report(tmp_path, {**sample(sites=1), "quick": True})


@pytest.mark.parametrize("methods", [("universal",), ("universal", "local"), ("local", "mim")])
def test_one_site_one_seed_few_methods(
    methods: tuple[str, ...], tmp_path: Path, report: Report, sample: Sample
) -> None:
    page = parse(report(tmp_path, sample(sites=1, methods=methods, seeds=(5,))))
    assert "One repeat only" in page.text
    assert "Mean over sites" not in page.text
    if methods == ("universal", "local"):
        assert "over working alone at blood" in page.text


def test_a_federation_without_sites_still_gives_a_page(
    tmp_path: Path, report: Report, sample: Sample
) -> None:
    parse(report(tmp_path, {**sample(sites=1), **{key: [] for key in LISTS}, "sites": []}))


def test_missing_numbers_are_dashes(tmp_path: Path, report: Report, sample: Sample) -> None:
    results = sample(sites=2)
    for kind in ("scores", "gains"):
        for row in results[kind]:
            row.update(value=None, low=None, high=None, seeds=[])
    for row in results["comparisons"]:
        row.update(mean_gain=None, p=None, p_holm=None)
    for row in results["curves"]:
        row.update(received=None, trained=None, loss=None)
    for row in results["timing"]:
        row.update(seconds=None, train_seconds=None, evaluate_seconds=None, peak_memory_mib=None)
    jsonschema.validate(results, results_schema())
    page = parse(report(tmp_path, results))
    assert "no measured gain of the universal model over working alone" in page.text
    assert "None" not in page.text.replace("Nonethe", "")


def test_nan_is_read_as_missing(tmp_path: Path, report: Report, sample: Sample) -> None:
    results = sample(sites=2)
    results["scores"][0]["value"] = float("nan")
    assert "nan" not in parse(report(tmp_path, results)).text.split()


def test_examples_say_whose_they_are_and_call_no_number_wrong(
    tmp_path: Path, report: Report, sample: Sample
) -> None:
    results = sample(methods=("fedavg", "local"))
    text = parse(report(tmp_path / "a", results)).text
    assert text.count("Predictions of FedAvg after fine-tuning") == len(results["sites"])
    assert "predicted 104.5 truth 104" in text
    assert "wrong predicted 104.5" not in text
    assert text.count("wrong predicted") == 5  # one at each site with classes
    for example in results["examples"]:
        del example["method"]  # as before it was stored
    assert "Predictions of" not in parse(report(tmp_path / "b", results)).text


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o022, 0o644)])
def test_the_umask_says_who_may_read_the_page(
    mask: int, mode: int, tmp_path: Path, sample: Sample, write_sample: Write
) -> None:
    run = write_sample(tmp_path, sample(sites=1))
    before = os.umask(mask)
    try:
        assert write_report(run).stat().st_mode & 0o777 == mode
    finally:
        os.umask(before)


def test_small_gains_count_in_every_place(tmp_path: Path, report: Report, sample: Sample) -> None:
    results = sample(sites=2, methods=("universal", "local"), seeds=(0,))
    for gain, value in zip(results["gains"], (0.0003, 0.02) * 2, strict=True):
        gain["value"] = value
    html = report(tmp_path, results)
    assert "at all 2 sites; the smallest gain" in html
    assert html.count("2 of 2</td>") >= 2
    assert 'class="level' not in html


def test_missing_and_broken_pictures_are_shown_as_missing(
    tmp_path: Path, sample: Sample, write_sample: Write
) -> None:
    run = write_sample(tmp_path, sample())
    (run / "examples/blood-0.png").unlink()
    (run / "examples/blood-1.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (run / "examples/polyp-0-truth.png").unlink()
    html = write_report(run).read_text(encoding="utf-8")
    assert html.count("picture missing") == 3


@pytest.mark.parametrize("path", ["../secret.png", "/etc/hostname", "examples/../../secret.png"])
@pytest.mark.parametrize("key", ["image", "truth_mask"])
def test_pictures_outside_the_run_are_refused(
    path: str, key: str, tmp_path: Path, sample: Sample, write_sample: Write
) -> None:
    results = sample()
    run = write_sample(tmp_path / "run", results)
    example = next(e for e in results["examples"] if key in e and e["kind"] == "segmentation")
    example[key] = path
    (run / "results.json").write_text(json.dumps(results))
    with pytest.raises(RunError, match="lies outside the run directory"):
        write_report(run)
    assert not (run / "report.html").exists()


def test_errors_name_the_file_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such run directory"):
        write_report(tmp_path / "none")
    with pytest.raises(RunError, match=r"has no results\.json"):
        write_report(tmp_path)
    path = tmp_path / "results.json"
    path.write_text('{"schema": ')
    with pytest.raises(RunError, match=r"results\.json: not valid JSON"):
        write_report(tmp_path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunError, match=r"results\.json: cannot be read"):
        write_report(tmp_path)
    for text in ("[]", "3", '{"schema": "polyclinic.results/9"}'):
        path.write_text(text)
        with pytest.raises(RunError, match=r"expected schema 'polyclinic\.results/1', got"):
            write_report(tmp_path)


def test_a_wrong_layout_is_named(tmp_path: Path, sample: Sample, write_sample: Write) -> None:
    results = sample(sites=1)
    del results["scores"][3]["site"]
    write_sample(tmp_path, results)
    with pytest.raises(RunError, match=r"scores\[3\]: `site` is missing"):
        write_report(tmp_path)
    write_sample(tmp_path, {**sample(sites=1), "sites": "blood"})
    with pytest.raises(RunError, match="sites: expected array, got str"):
        write_report(tmp_path)
    results = sample(sites=1)
    results["sites"][0]["task"] = "magic"
    write_sample(tmp_path, results)
    with pytest.raises(RunError, match=r"sites\[0\]\.task: expected one of single-label"):
        write_report(tmp_path)
    elsewhere = {"name": "a", "metric": "primary", "training_images": None, "judged": []}
    write_sample(tmp_path, {**sample(sites=1), "deployed": True, "sites": [elsewhere]})
    assert write_report(tmp_path).exists()
    write_sample(tmp_path, {**sample(sites=1), "sites": [{**elsewhere, "metric": "auroc"}]})
    with pytest.raises(RunError, match=r"sites\[0\]: `task` is missing"):
        write_report(tmp_path)
    write_sample(tmp_path, {**sample(sites=1), "finished": 1})
    with pytest.raises(RunError, match="finished: expected boolean, got int"):
        write_report(tmp_path)


def test_a_failed_write_leaves_the_old_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: Sample, write_sample: Write
) -> None:
    run = write_sample(tmp_path, sample(sites=1))
    before = write_report(run).read_bytes()

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(RunError, match=r"report\.html: cannot be written \(No space"):
        write_report(run)
    assert (run / "report.html").read_bytes() == before
    assert not (run / "report.html.part").exists()


def test_stages_without_a_site_say_so_in_words(html: str) -> None:
    text = parse(html).text
    assert "Stages in which not all sites took part" in text
    assert "FedAvg 0 3, 4 7 of 8: chest absent" in text
