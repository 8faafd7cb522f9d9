import math

import numpy as np
import pytest

from vqcli.evaluation.image.bd_rate import delta_rate, delta_rates, monotone_cubic, ms_ssim_db
from vqcli.evaluation.image.rate_distortion import Point

OWN = [(0.2, 28.0), (0.4, 31.0), (0.8, 34.0), (1.4, 37.0)]
OTHER = [(0.3, 28.5), (0.5, 30.8), (1.0, 34.2), (1.6, 36.5)]


def test_it_is_what_others_compute():
    """-20.60006 is what the package bjontegaard 1.3.0 gives with method='pchip'."""
    percent, low, high = delta_rate(OWN, OTHER)
    assert percent == pytest.approx(-20.60006, abs=1e-3)
    assert (low, high) == (pytest.approx(0.3), pytest.approx(1.6))


def test_a_codec_of_a_fifth_fewer_bytes():
    fewer = [(0.8 * rate, quality) for rate, quality in OTHER]
    assert delta_rate(fewer, OTHER)[0] == pytest.approx(-20)
    assert delta_rate(OTHER, fewer)[0] == pytest.approx(25)
    assert delta_rate(OTHER, OTHER)[0] == pytest.approx(0)


def test_only_rates_that_are_asked_for():
    percent, low, high = delta_rate(OWN, OTHER, (0.5, 1.0))
    assert 0.5 <= low < 0.51 and 0.99 < high <= 1.0
    assert percent != pytest.approx(delta_rate(OWN, OTHER)[0], abs=0.1)
    assert delta_rate(OWN, OTHER, (2.0, 3.0)) is None


def test_curves_that_cannot_be_compared():
    assert delta_rate(OWN[:1], OTHER) is None
    assert delta_rate([], OTHER) is None
    assert delta_rate([(0.1, 10.0), (0.2, 12.0)], OTHER) is None
    assert delta_rate([(0.1, math.inf), (0.2, math.nan)], OTHER) is None


def test_more_bytes_for_less_quality_do_not_count():
    dented = [*OTHER, (0.9, 30.0)]
    assert delta_rate(OWN, dented) == delta_rate(OWN, OTHER)


def test_the_curve_goes_through_its_points_and_never_overshoots():
    x, y = np.array([0.0, 1.0, 3.0, 4.0]), np.array([0.0, 0.0, 5.0, 5.0])
    at = np.linspace(0, 4, 201)
    curve = monotone_cubic(x, y, at)
    assert monotone_cubic(x, y, x) == pytest.approx(y)
    assert (np.diff(curve) >= -1e-12).all() and curve.min() >= -1e-12 and curve.max() <= 5 + 1e-12


def test_it_is_taken_image_by_image():
    def points(codec, factor, pictures):
        return [
            Point(codec, n, picture, 100, rate * factor, quality, 1 - 10 ** (-quality / 20))
            for picture in pictures
            for n, (rate, quality) in enumerate(OTHER)
        ]

    own = points("own", 0.5, ["a"]) + points("own", 1.0, ["b"])
    found = delta_rates(own + points("AVIF", 1.0, ["a", "b"]) + points("JPEG", 1.0, ["a"]))
    assert [(delta.codec, delta.measure, delta.images) for delta in found] == [
        ("AVIF", "PSNR", 2), ("AVIF", "MS-SSIM", 2), ("JPEG", "PSNR", 1), ("JPEG", "MS-SSIM", 1),
    ]  # fmt: skip
    assert [delta.percent for delta in found] == pytest.approx([-25, -25, -50, -50])
    assert delta_rates([]) == []


def test_ms_ssim_in_db():
    assert ms_ssim_db(0.99) == pytest.approx(20)
    assert ms_ssim_db(1.0) == math.inf
