"""Figures of a study are written where there is something to draw."""

from matplotlib.image import imread

from class_hf.plots.study import plot_curves, plot_quartiles


def test_figures_of_a_study(tmp_path):
    times = [0.0, 1.0, 2.0]
    curves = {
        arm: {"seconds": times, "pairs_seen": [0, 900, 1800], "mrr": [0.1, 0.2, last]}
        for arm, last in (("none", 0.3), ("random", 0.25), ("easy", 0.4))
    }
    part = {"difference": 0.1, "interval_95": [0.05, 0.2]}
    quartiles = {"none": {"easy": [part] * 4, "hard": [{"difference": -0.02, "interval_95": [-0.1, 0.1]}] * 4}}
    paths = [
        plot_curves(curves, ["none", "random"], tmp_path / "curves.png"),
        plot_quartiles(quartiles, tmp_path / "quartiles.png"),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "quartiles.png"]
    for path in paths:
        picture = imread(path)
        assert (picture[0, 0] == 1).all() and (picture[..., :3].min(axis=-1) < 0.5).any()
    assert plot_curves({"none": {"seconds": [], "pairs_seen": [], "mrr": []}}, [], tmp_path / "no.png") is None
    assert plot_quartiles({"none": {}}, tmp_path / "no.png") is None
