"""What the comparison of engines counts, and that all of them are given the same work."""

import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

import blood_parts
import peers_table
import process_tree
import user_lines
from polyclinic.federation.exchange import Federation
from polyclinic.federation.stages import StageStore
from polyclinic.federation.workers import Workers
from stopwatch import Marks

SIZE = replace(blood_parts.SMOKE, parts=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("parts")
    blood_parts.write_parts(place, SIZE, seed=3)
    return place


def federation_of(folder, place):
    sites = blood_parts.load_parts(folder)
    return Federation(
        method="fedavg",
        seed=3,
        start=blood_parts.load_start(folder),
        corpus=np.zeros((0, 3, 16, 16), np.uint8),
        config=blood_parts.load_config(folder),
        workers=Workers(sites),
        store=StageStore(place, lambda _: None),
        tell=lambda *_: None,
    )


def test_the_configuration_says_what_the_size_says(folder):
    config = blood_parts.load_config(folder)
    assert [site.name for site in config.sites] == ["part-0", "part-1"]
    assert (config.seeds, config.methods) == ((3,), ("fedavg",))
    assert config.data.image_size == SIZE.image_size
    local = config.local
    assert (local.stages, local.min_steps, local.max_steps) == (SIZE.stages, SIZE.steps, SIZE.steps)


def test_the_peers_train_by_the_plan_of_our_own_federation(folder, tmp_path):
    federation = federation_of(folder, tmp_path)
    stages = federation.begin({"": federation.start})
    for stage in range(SIZE.stages):
        plan = federation.plan(replace(stages, done=stage))
        assert blood_parts.plan_of(federation.config, stage) == plan


def test_lines_that_only_measure_or_explain_do_not_count(tmp_path):
    module = tmp_path / "app.py"
    module.write_text(
        '"""What it is.\n\nMore.\n"""\n\n'
        "import stopwatch\n"
        "import json  # a comment\n\n\n"
        "# a comment\n"
        "def run(\n    name: str,\n) -> str:\n"
        '    """What it does."""\n'
        '    marks = stopwatch.Marks("x")\n'
        '    text = """a\n\nb"""\n'
        "    marks.ended()\n"
        "    return json.dumps(name + text)\n"
    )
    assert user_lines.python_lines(module) == 1 + 3 + 3 + 1


def test_blank_lines_and_comments_of_a_configuration_do_not_count(tmp_path):
    file = tmp_path / "federation.toml"
    file.write_text("# what it is\n\nseeds = [0]  # one\n\n[data]\n  # small\nimage_size = 16\n")
    assert user_lines.configuration_lines(file) == 3


def test_marks_of_several_processes_make_rounds(tmp_path, monkeypatch):
    marks = Marks(tmp_path, "flower")
    times = iter([12.0, 11.0, 14.0, 15.0, 18.5])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    marks.began()
    marks.began()
    marks.ended(down=5, up=3)
    marks.began()
    marks.ended(down=6, up=4)
    read = marks.read(10.0)
    assert read["seconds_before_first_step"] == 1.0
    assert read["rounds"] == [3.0, 4.5]
    assert (read["bytes_down_a_round"], read["bytes_up_a_round"]) == ([5, 6], [3, 4])


def test_our_own_federation_notes_the_same(folder, tmp_path):
    federation = federation_of(folder, tmp_path)
    marks = Marks(tmp_path, "polyclinic")
    marks.watch(federation)
    assert list(federation.workers.map(lambda site, n: (site.name, n), [("part-1", (7,))])) == [
        ("part-1", ("part-1", 7))
    ]
    said = {"bytes_down": 10, "bytes_up": 4}
    federation.store.log({"sites": {"part-0": said, "part-1": said}})
    read = marks.read(0.0)
    assert (read["bytes_down_a_round"], read["bytes_up_a_round"]) == ([20], [8])


def test_memory_is_that_of_all_processes(tmp_path):
    code = "import time; x = bytearray(64 << 20); time.sleep(1)"
    both = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    process = subprocess.Popen([sys.executable, "-c", both], cwd=tmp_path)
    watched = process_tree.watch(process, timeout=60)
    assert watched["most_processes"] == 2
    assert watched["peak_resident_mib"] > 64
    assert watched["peak_proportional_mib"] <= watched["peak_resident_mib"]
    assert watched["processes_left_behind"] == 0


def test_what_an_engine_leaves_running_is_counted_and_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(process_tree, "STAY", 0.5)
    child = "import time; time.sleep(60)"
    code = f"import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', {child!r}]);"
    code += " open('pid', 'w').write(str(p.pid)); time.sleep(1); p.returncode = 0"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    assert process_tree.watch(process, timeout=60)["processes_left_behind"] == 1
    pid = int((tmp_path / "pid").read_text())
    until = time.monotonic() + 10
    while (running := pid in {n for n, _ in process_tree._running()}) and time.monotonic() < until:
        time.sleep(0.05)
    assert not running


def test_the_tables_name_every_engine():
    median = dict.fromkeys(
        ("wall_seconds", "seconds_before_first_step", "seconds_a_round", "peak_proportional_mib"), 2
    )
    agreement = {"bit_identical": False, "largest_difference": 3e-7}
    layout = {
        "workers": 2,
        "threads_a_worker": 1,
        "medians": dict.fromkeys(("polyclinic", "nvflare"), median | {"bytes_a_round": 5e6}),
        "same_weights_as_polyclinic": {"nvflare": agreement},
    }
    effort = {"commands": ["a"], "settings": [], "configuration_lines": 33, "python_lines": 27}
    text = peers_table.markdown({"layouts": [layout], "written_by_a_user": {"nvflare": effort}})
    lines = text.splitlines()
    assert lines[2] == "| 2 \N{MULTIPLICATION SIGN} 1 | in process | 2 | 2.0 | 2.0 | 2 | 5.0 |  |"
    assert lines[3].endswith("| differ by up to 3e-07 |")
    assert lines[-1] == "| NVFlare simulator | 1 | 0 | 33 | 27 |"
