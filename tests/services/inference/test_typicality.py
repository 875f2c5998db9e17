import numpy as np
from tests.services.inference.test_posterior import GRID, SETTINGS, synthetic

from nearedge_services.inference.posterior import SpectrumInference
from nearedge_services.inference.typicality import typicalities


def noisy(count, seed):
    """Networks whose spectra also have small wiggles of their own, outside the two modes."""
    library = synthetic(count, seed)
    rng = np.random.default_rng(seed + 100)
    library.spectra[:] += (
        5e-4 * rng.normal(size=(count, 8)) @ np.sin(np.outer(np.arange(3, 11), GRID.energies))
    )
    return library


def test_networks_of_the_librarys_kind_are_known():
    values = typicalities(SpectrumInference(noisy(60, 0), SETTINGS), noisy(200, 1).spectra)
    assert np.mean(values < 0.01) < 0.05
    assert values.shape == (200,)


def test_what_the_components_do_not_show_is_seen():
    """A peak of its own, with nothing of it in the two modes: only the remainder can tell."""
    inference = SpectrumInference(noisy(60, 2), SETTINGS)
    peak = 0.02 * np.exp(-0.5 * ((GRID.energies - 6.0) / 0.3) ** 2)
    peak -= inference.basis.T @ (inference.basis @ peak)
    strange = noisy(20, 3).spectra
    strange = strange[[inference.typicality(one) > 0.2 for one in strange]] + peak
    assert all(inference.typicality(one) > 0.1 for one in strange)
    assert typicalities(inference, strange).max() < 1e-4


def test_what_the_components_show_is_seen_too():
    inference = SpectrumInference(noisy(60, 4), SETTINGS)
    far = inference.mean + 0.2 * inference.basis[0] - 0.2 * inference.basis[1]
    assert typicalities(inference, far[None])[0] < 1e-4
