"""Arms of a study are compared at equal cost and at their best learning rate, and are confirmed on held-out seeds."""

# ruff: noqa: F811 (fixtures)
import json
import shutil

import pytest
import yaml
from study_parts import ABLATE, ARMS, place, quick  # noqa: F401

pytestmark = pytest.mark.usefixtures("blank_pictures")

COSTS = {
    "none": {"curriculum_order": "none"},
    "time": {"curriculum_order": "none", "sentence_dropout": 0.5, "same_time_as": "none"},
    "tokens": {"curriculum_order": "none", "sentence_dropout": 0.5, "same_tokens_as": "none"},
    "pairs": {"curriculum_order": "none", "per_device_train_batch_size": 4, "same_pairs_as": "none"},
    "same": {"curriculum_order": "none", "same_time_as": "none"},
}


def test_arms_of_equal_cost(quick, capsys):
    """8 steps of `none` take the time of 8 / .75 steps with dropped sentences, and their tokens those of 16."""
    quick.write(arms=COSTS, baselines=["none"], common={"per_device_train_batch_size": 16})
    quick.run()
    first, second = ([f"{arm}/seed_{seed}" for arm in COSTS] for seed in (0, 1))
    # Only the first runs whose step has another cost are trained twice. The batch size tells the pairs beforehand.
    assert quick.calls() == [first[0], *first[1:2] * 2, *first[2:3] * 2, *first[3:], *second]
    assert "time seed 0: MRR 0.2525, 8 steps, 14 s (CPU 24 s); trained again with the" in capsys.readouterr().out
    report = json.loads((quick.output / "report.json").read_text())
    assert [report["arms"][arm]["steps"]["mean"] for arm in COSTS] == [8, 11, 16, 32, 8]
    ratios = {arm: round(row["ratio"], 3) for arm, row in report["equal_costs"].items()}
    assert ratios == {"time": 1.031, "tokens": 1.0, "pairs": 1.0, "same": 1.0}
    text = (quick.output / "report.md").read_text()
    assert (
        "- `time` took 1.03 of the time of `none`." in text and "- `pairs` took 1.00 of the pairs of `none`." in text
    )
    quick.run()
    assert quick.calls() == []


def test_steps_of_different_cost_are_corrected_twice(quick):
    """The first two steps with dropped sentences read no tokens: 8, 21 and 18 steps."""
    stub = quick.folder / "stub.py"
    stub.write_text(stub.read_text().replace('batch * steps, "pairs', 'batch * (steps - 2 * dropping), "pairs'))
    quick.write(arms={"none": COSTS["none"], "tokens": COSTS["tokens"]}, baselines=["none"], seeds=[0])
    quick.run()
    assert quick.calls() == ["none/seed_0", *["tokens/seed_0"] * 3]
    report = json.loads((quick.output / "report.json").read_text())
    assert report["arms"]["tokens"]["steps"]["mean"] == 18 and report["equal_costs"]["tokens"]["ratio"] == 1.0
    assert json.loads((quick.output / "tokens" / "steps_over_source.json").read_text())["corrections"] == 2


def test_a_cost_that_is_not_equal_is_in_bold(quick):
    quick.write(arms=COSTS, baselines=["none"], common={"per_device_train_batch_size": 16})
    quick.run("--seeds", "0")
    for file in quick.output.glob("tokens/seed_0/train_summary.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "tokens_seen": 1280}))
    quick.run("--report_only")
    assert (
        "- **`tokens` took 0.50 of the text tokens of `none`, not as much.**"
        in (quick.output / "report.md").read_text()
    )


def test_an_interruption_between_the_measurement_and_the_second_training(quick):
    quick.write(arms=COSTS, baselines=["none"])
    quick.run("--seeds", "0", "--arms", "none")
    quick.run("--seeds", "0", "--arms", "time")
    (quick.output / "time" / "steps_over_source.json").unlink()
    (quick.output / "time" / "seed_0" / "train_summary.json").unlink()
    quick.calls()
    quick.run("--seeds", "0", "--arms", "time")
    assert quick.calls() == ["time/seed_0", "time/seed_0"]
    assert json.loads((quick.output / "time" / "seed_0" / "train_summary.json").read_text())["steps"] == 11


def test_tokens_that_were_not_counted(quick, capsys):
    stub = quick.folder / "stub.py"
    stub.write_text(stub.read_text().replace("(10 if dropping else 20)", "0"))
    quick.write(arms=COSTS, baselines=["none"])
    with pytest.raises(SystemExit):
        quick.run("--arms", "none", "tokens", "--seeds", "0")
    message = "tokens seed 0: FAILED: same_tokens_as cannot be used: the training counted no tokens seen"
    assert message in capsys.readouterr().out
    assert not (quick.output / "tokens" / "seed_0" / "train_summary.json").exists()


def test_learning_rates_are_chosen_for_each_arm(quick):
    arms = {"none": ARMS["none"], "random": ARMS["random"], "equal": ARMS["equal"]}
    quick.write(arms=arms, learning_rates=[1, 0.5, 2], seeds=[0])
    quick.run()
    assert len(quick.calls()) == 9
    settings = yaml.safe_load((quick.output / "random" / "learning_rate_x2" / "seed_0.yaml").read_text())
    assert settings["learning_rate"] == 0.002
    report = json.loads((quick.output / "report.json").read_text())
    assert [row["best"] for row in report["learning_rates"].values()] == [2.0, 2.0, 2.0]
    rates = report["learning_rates"]["none"]["mrr"]
    assert report["arms"]["none"]["mrr"]["mean"] == rates["2"] > rates["1"] > rates["0.5"]
    row = next(
        line for line in (quick.output / "report.md").read_text().splitlines() if "(an end of the sweep)" in line
    )
    assert row.startswith("| none | 1 | ") and row.endswith(f"| **{rates['2']:.4f}** | x2 (an end of the sweep) |")


def test_the_best_candidate_is_confirmed_on_held_out_seeds(quick, capsys):
    arms = {**ARMS, "easy": {**ARMS["easy"], "same_time_as": "random"}}
    changes = {"arms": arms, "seeds": None, "choose_seeds": [0], "confirm_seeds": [3, 4], "learning_rates": [1, 2]}
    path = quick.write(**changes)
    values = {key: value for key, value in yaml.safe_load(path.read_text()).items() if value is not None}
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    printed = ABLATE.describe(ABLATE.read_study(path), quick.output)
    assert "small: 8 runs, 0 finished" in printed
    assert "then none, random and the best of easy, equal: seeds 3, 4" in printed
    quick.run("--arms", "none", "random")
    assert "nothing is chosen to confirm: easy seed 0 and 3 more is not finished" in capsys.readouterr().out
    quick.calls()
    quick.run()
    confirming = [f"{arm}/learning_rate_x2/seed_{seed}" for seed in (3, 4) for arm in ("none", "random", "easy")]
    names = [path.parent.relative_to(quick.output).as_posix() for path in quick.output.rglob("train_summary.json")]
    assert set(confirming) <= set(names) and len(names) == 8 + 6 and len(quick.calls()) == 4 + 6
    report = json.loads((quick.output / "report.json").read_text())
    assert list(report["arms"]) == list(arms) and report["arms"]["easy"]["seeds"] == [0]
    confirmed = report["confirmed"]
    assert confirmed["seeds"] == [3, 4] and list(confirmed["arms"]) == ["none", "random", "easy"]
    assert confirmed["tests"]["none"]["easy"]["difference"] > 0 and confirmed["equal_costs"]["easy"]["ratio"] == 1.0
    text = (quick.output / "report.md").read_text()
    assert "- **confirmed** on held-out seeds 3, 4: `easy` is better than `none`: MRR +" in text
    assert "- **not confirmed** on held-out seeds 3, 4: `easy` is not distinguishable from `random`: MRR" in text
    assert text.index("## Confirmed on held-out seeds (3, 4)") < text.index("## Quality")
    quick.run(), quick.run("--report_only")
    assert quick.calls() == []


def test_a_factor_of_other_settings_is_measured_again(quick):
    quick.write(arms={"none": COSTS["none"], "time": COSTS["time"]}, baselines=["none"], seeds=[0])
    quick.run()
    stale = quick.output / "time" / "steps_over_source.json"
    assert json.loads(stale.read_text())["done"]
    quick.write(
        arms={"none": COSTS["none"], "time": {**COSTS["time"], "weight_decay": 0.1}}, baselines=["none"], seeds=[0]
    )
    with pytest.raises(ValueError, match="weight_decay None -> 0.1.*remove .*seed_0 to train it again"):
        quick.run()
    shutil.rmtree(quick.output / "time" / "seed_0")
    quick.calls()
    quick.run()
    assert quick.calls() == ["time/seed_0", "time/seed_0"]  # with the steps of `none`, then with those measured


def test_steps_of_a_source_that_stopped_early_or_was_trained_again(quick):
    """`equal` has the steps that `random` took, also if its plan has more of them."""
    stub = quick.folder / "stub.py"
    stub.write_text(stub.read_text().replace('{"total_steps": steps', '{"total_steps": 2 * steps'))
    quick.write(arms={arm: ARMS[arm] for arm in ("none", "random", "equal")}, seeds=[0])
    quick.run()
    report = json.loads((quick.output / "report.json").read_text())
    assert [report["arms"][arm]["steps"]["mean"] for arm in ("random", "equal")] == [6, 6]
    shutil.rmtree(quick.output / "random" / "seed_0")
    stub.write_text(stub.read_text().replace("else 6", "else 7"))
    with pytest.raises(ValueError, match=r"equal/seed_0 was finished with other settings \(max_steps 6 -> 7\)"):
        quick.run()
