"""How long the rest takes: said once enough was seen, and not reckoned from what happens once."""

from polyclinic.run.progress import time_left


def test_time_left_is_reckoned_from_the_first_step_on():
    now = [100.0]
    left = time_left(clock=lambda: now[0])
    said = []
    for seconds, share in ((10, 0.1), (12, 0.3), (14, 0.5), (18, 0.9), (19, 1.0)):
        now[0] = 100.0 + seconds  # processes took ten seconds to start
        said.append(left(share))
    assert said[:2] == [None, None]  # too early to say
    assert [round(seconds, 6) for seconds in said[2:]] == [5.0, 1.0, 0.0]


def test_nothing_is_said_of_a_share_that_hardly_grows():
    now = [0.0]
    left = time_left(clock=lambda: now[0])
    left(0.0)
    now[0] = 60.0
    assert left(0.001) is None
