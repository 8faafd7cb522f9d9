import math
import re

import numpy as np
import pytest

from vqcli.media import charts
from vqcli.media.charts import Axis, Band, Line

PAIR = {"x_title": "steps", "y_title": "loss"}


def coordinates(html, name):
    """Where the curve called `name` goes, in drawing units: [points, 2]."""
    path = re.search(rf'data-name="{name}" d="([^"]+)"', html)[1]
    return np.array([[float(part) for part in point.split()] for point in re.split("[ML]", path)[1:]])


def test_a_curve_lies_where_its_values_are():
    html = charts.chart("Loss", [Line("one", [(0, 10), (50, 5), (100, 0)])], **PAIR, low=0, high=10)
    drawn = coordinates(html, "one")
    assert drawn[:, 0].tolist() == [0, 500, 1000]
    assert np.allclose(drawn[:, 1], [1000 - 1000 * y / 10.4 for y in (10, 5, 0)], atol=0.1)
    assert html.count("h0") == 3 and 'class="raw' not in html  # few points are also dots, and not smoothed
    assert ">100</span>" in html and ">10</span>" in html


def test_wide_ranges_are_logarithmic():
    assert charts.y_axis_for([1, 19]).log is False
    assert charts.y_axis_for([1, 21]).log is True
    assert charts.y_axis_for([0, 1000]).log is False and charts.y_axis_for([-5, 1000]).log is False
    axis = Axis(1, 100, log=True)
    assert axis.place(10) == pytest.approx(500)
    assert "logarithmic" in charts.chart("Loss", [Line("one", [(1, 1), (2, 100)])], **PAIR)


@pytest.mark.parametrize(
    "values", [[0.0], [3.0], [-3.0, -3.0], [1e-30, 1e30], [-1e30, 1e30], [0, 1e-30], [1e30, 1e30 - 1e14]]
)
def test_any_values_have_an_axis(values):
    axis = charts.y_axis_for(values)
    for value in values:
        assert -1e-6 <= axis.place(value) <= 1000 + 1e-6
    ticks = axis.ticks(6)
    assert 1 <= len(ticks) <= 10 and all(-1e-6 <= axis.place(value) <= 1000 + 1e-6 for value, _ in ticks)
    html = charts.chart("x", [Line("one", [(index, value) for index, value in enumerate(values)])], **PAIR)
    assert "nan" not in html and "inf" not in html


def test_round_ticks():
    assert charts.round_ticks(0, 10, 6) == [0, 2, 4, 6, 8, 10]
    assert charts.round_ticks(0.96, 1.71, 6) == [1.0, 1.2, 1.4, 1.6]
    assert charts.round_ticks(-0.33, 0.33, 6) == [-0.2, 0, 0.2]
    assert charts.log_ticks(2, 60) == [2, 5, 10, 20, 50]
    assert charts.log_ticks(1e-4, 10) == [1e-4, 1e-3, 1e-2, 0.1, 1, 10]


def test_numbers_for_people():
    texts = {0: "0", 0.25: "0.25", 1234: "1,234", 9999.9999: "10,000", 12500: "12.5 k", 3e6: "3 M", 0.0003: "3·10⁻⁴"}
    assert {value: charts.short(value) for value in texts} == texts
    assert charts.short(-2.5e15) == "-2.5·10¹⁵"
    assert [label for _, label in Axis(0, 20_000).ticks(5)] == ["0", "5 k", "10 k", "15 k", "20 k"]


def test_one_peak_does_not_move_the_smooth_curve():
    noise = np.random.default_rng(0).normal(5, 0.1, 5000)
    noise[2000:2010] = 1000
    html = charts.chart("Loss", [Line("one", list(enumerate(noise.tolist())), smooth=True)], **PAIR)
    drawn = coordinates(html, "one")
    assert len(drawn) <= charts.MOST_POINTS and 'class="raw s0"' in html
    assert np.ptp(drawn[:, 1]) < 40  # of 1000
    assert drawn[0, 0] == 0 and drawn[-1, 0] == 1000


def test_thinning_keeps_the_extremes():
    values = np.random.default_rng(1).normal(size=100_003)
    points = list(enumerate(values.tolist()))
    kept = charts.thinned(points)
    assert len(kept) <= charts.MOST_POINTS + 1 and kept == sorted(kept) and kept[-1] == points[-1]
    assert {min(y for _, y in kept), max(y for _, y in kept)} == {values.min(), values.max()}


def test_names_are_escaped():
    bad = '<b a="1">&'
    html = charts.chart(bad, [Line(bad, [(1, 1)]), Line(bad, [(1, 2)])], x_title=bad, y_title=bad,
                        band=Band(bad, [1], [0], [2]), mark=(1, bad))  # fmt: skip
    assert "<b a" not in html and 'a="1"' not in html
    assert html.count("&lt;b a=&quot;1&quot;&gt;&amp;") >= 8


def test_band_and_mark():
    line = Line("median", [(1, 0.5), (2, 0.75)])
    band = Band("range", [1, 2], [0.25, 0.5], [0.75, 1])
    html = charts.chart("Use", [line], **PAIR, band=band, mark=(0.25, "quarter"), low=0, high=1, share=True)
    assert 'class="band"' in html and ">quarter<" in html and ">100%<" in html and "median 50% at 1" in html
    assert math.isclose(float(re.search(r'class="mark" d="M0 ([\d.]+)H', html)[1]), 1000 - 250 / 1.04, abs_tol=0.1)


def test_nothing_to_draw():
    assert charts.chart("Loss", [Line("one", [])], **PAIR) == ""
