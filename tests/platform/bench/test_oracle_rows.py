import numpy as np
import pytest

from nearedge.bench.base import BenchResult
from nearedge.bench.oracle_rows import Crystal, crystal_rows, ranking_rows
from nearedge.bench.oracles_picture import draw

ENERGIES = np.arange(-2.0, 28.25, 0.25)


def peaks(*places):
    curve = sum(height * np.exp(-0.5 * ((ENERGIES - place) / 0.6) ** 2) for place, height in places)
    return curve / curve.sum()


def crystal(below=0.0):
    return Crystal(ENERGIES, peaks((2, 0.5), (8.25, 1.0)), peaks((6, 1.0), (2, below)))


def test_positions_are_those_of_the_peaks_after_one_alignment():
    sigma, edge, shares, ratio = crystal_rows("toy", crystal())
    assert sigma.measured == pytest.approx(285.4 + 6.25)
    assert edge.measured == pytest.approx(285.4 + 4 - 0.6 * np.sqrt(2 * np.log(2)), abs=0.25)
    assert shares.measured == pytest.approx(100 / 3, abs=1)
    assert shares.baseline < 1
    assert ratio.passed


def test_a_diamond_that_absorbs_like_graphite_fails():
    assert not crystal_rows("toy", crystal(below=1.0))[-1].passed


def test_ranking_is_one_for_the_reference_itself_and_not_for_noise():
    spectra = [peaks((2, 0.1 * k), (9, 1.0)) for k in range(1, 8)]
    shares = [0.1 * k for k in range(1, 8)]
    rows, _ = ranking_rows("toy", ENERGIES, spectra, spectra, shares)
    assert [row.measured for row in rows] == pytest.approx([1.0, 1.0])
    generator = np.random.default_rng(0)
    noise = [generator.random(ENERGIES.size) for _ in spectra]
    rows, _ = ranking_rows("toy", ENERGIES, noise, spectra, shares)
    assert not rows[0].passed


def test_picture(tmp_path):
    draw(BenchResult("oracles", [], {"crystals": {"toy": vars(crystal())}}), tmp_path / "o.png")
    assert (tmp_path / "o.png").stat().st_size > 1000
