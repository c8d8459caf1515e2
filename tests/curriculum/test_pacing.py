import numpy as np
import pytest

from class_hf.curriculum.pacing import competence

PACINGS = ("root", "linear", "geometric", "stages")


@pytest.mark.parametrize("pacing", PACINGS)
@pytest.mark.parametrize("start", (0.05, 0.3, 1.0))
def test_starts_at_the_start_ends_at_one_and_never_falls(pacing, start):
    shares = [competence(t, pacing=pacing, start=start) for t in np.linspace(0, 1.5, 61)]
    assert shares[0] == pytest.approx(start)
    assert shares[-1] == 1.0 and competence(1.0, pacing=pacing, start=start) == 1.0
    assert all(b >= a for a, b in zip(shares, shares[1:], strict=False))
    assert all(start <= share <= 1.0 for share in shares)


def test_root_is_the_square_root_rule():
    assert competence(0.4, start=0.2) == pytest.approx(np.sqrt(0.4 * (1 - 0.2**2) + 0.2**2))


def test_linear_is_root_of_power_one():
    assert competence(0.4, pacing="linear") == pytest.approx(competence(0.4, power=1.0))


def test_geometric_grows_by_a_constant_factor():
    a, b, c = (competence(t, pacing="geometric", start=0.1) for t in (0.2, 0.4, 0.6))
    assert b / a == pytest.approx(c / b)


def test_stages_are_steps():
    assert {round(competence(t, pacing="stages", stages=2, start=0.4), 6) for t in np.linspace(0, 0.999, 50)} == {
        0.4,
        0.7,
    }


@pytest.mark.parametrize("pacing", PACINGS)
@pytest.mark.parametrize(("start", "end"), [(0.3, 0.6), (0.3, 0.3), (1.0, 0.6)])
def test_ends_at_the_end_share(pacing, start, end):
    shares = [competence(t, pacing=pacing, start=start, end=end) for t in np.linspace(0, 1.5, 61)]
    assert shares[0] == pytest.approx(min(start, end)) and shares[-1] == end
    assert all(b >= a for a, b in zip(shares, shares[1:], strict=False))


@pytest.mark.parametrize("pacing", PACINGS)
def test_an_end_of_one_changes_no_bit(pacing):
    for t in np.linspace(0, 1, 101):
        assert competence(t, pacing=pacing, start=0.37, end=1.0) == competence(t, pacing=pacing, start=0.37)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"progress": -0.1}, "progress"),
        ({"progress": float("nan")}, "progress"),
        ({"progress": 0.1, "start": 0.0}, "start share is 0.0"),
        ({"progress": 0.1, "start": 1.2}, "start share is 1.2"),
        ({"progress": 0.1, "end": 0.0}, "end share is 0.0"),
        ({"progress": 0.1, "end": 1.1}, "end share is 1.1"),
        ({"progress": 0.1, "power": 0.5}, "power is 0.5"),
        ({"progress": 0.1, "stages": 0}, "stages is 0"),
        ({"progress": 0.1, "pacing": "fast"}, "'fast' is not known"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        competence(**arguments)
