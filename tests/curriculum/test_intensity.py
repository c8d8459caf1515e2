import pytest

from class_hf.curriculum.intensity import Intensity, IntensitySchedule

ALL = ("sharpness", "focus", "step_size")


def test_constant_is_full_intensity():
    assert IntensitySchedule("constant", actions=ALL).at(0.3, 0.3) == Intensity(1.0, 1.0, 1.0)


def test_no_action_does_nothing_whatever_the_mode():
    for mode in ("constant", "scheduled", "adaptive"):
        assert IntensitySchedule(mode).at(0.3, 0.3) == Intensity()


def test_scheduled_follows_the_competence():
    schedule = IntensitySchedule("scheduled", actions=ALL, start=0.4, gamma=2.0)
    kappas = [schedule.kappa(c, 0.3) for c in (0.3, 0.65, 1.0)]
    assert kappas == pytest.approx([0.4, 0.7, 1.0])
    assert schedule.at(0.65, 0.3) == pytest.approx((0.7, 1.4, 0.7))


def test_scheduled_without_growth_is_full():
    assert IntensitySchedule("scheduled", actions=ALL).kappa(1.0, 1.0) == 1.0


@pytest.mark.parametrize("action", ALL)
def test_each_action_alone(action):
    intensity = IntensitySchedule("scheduled", actions=[action], start=0.5)
    changed = [name for name, a, b in zip(ALL, intensity.at(0.3, 0.3), Intensity(), strict=True) if a != b]
    assert changed == [action]


def test_adaptive_rises_with_accuracy_and_never_falls():
    schedule = IntensitySchedule("adaptive", actions=ALL, start=0.5, momentum=0.5)
    kappas = [schedule.kappa(0.3, 0.3)]
    for accuracy in (0.2, 0.8, 0.9, 0.1, 0.0, 1.0, 1.0, 1.0):
        schedule.update(accuracy)
        kappas.append(schedule.kappa(0.3, 0.3))
    assert kappas[0] == 0.5 and all(b >= a for a, b in zip(kappas, kappas[1:], strict=False))
    assert kappas[5] == kappas[4] == kappas[3] > 0.5 and kappas[-1] <= 1.0


def test_state_comes_back():
    schedule = IntensitySchedule("adaptive", actions=ALL)
    schedule.update(0.7)
    other = IntensitySchedule("adaptive", actions=ALL)
    other.load_state_dict(schedule.state_dict())
    schedule.update(0.9), other.update(0.9)
    assert schedule.kappa(0.5, 0.3) == other.kappa(0.5, 0.3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "loud"}, "'loud' is not known"),
        ({"actions": ["focus", "volume"]}, "'volume' is not known"),
        ({"start": 0.0}, "start is 0.0"),
        ({"gamma": -1.0}, "gamma is -1.0"),
        ({"momentum": 1.0}, "is 1.0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        IntensitySchedule(**arguments)


@pytest.mark.parametrize("accuracy", (-0.1, 1.1, float("nan")))
def test_bad_accuracy(accuracy):
    with pytest.raises(ValueError, match="in-batch accuracy"):
        IntensitySchedule("adaptive").update(accuracy)
