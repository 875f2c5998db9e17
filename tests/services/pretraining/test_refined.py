"""Frames of generated structures that a potential refined."""

import pytest
from ase.build import bulk

from nearedge_services.oracles.factory import make_oracle
from nearedge_services.pretraining import jobs
from nearedge_services.pretraining.frames import networks
from nearedge_services.pretraining.settings import PretrainingSettings
from nearedge_services.refinement import Anneal, Refined, RefinementStatus

POLISH = {"relax_steps": 3, "path_frames": 2}


@pytest.fixture
def made(monkeypatch):
    """A job's frames of one raw structure, refined to another, and the anneal that was asked for."""

    def make(unit, raw, refined, status=RefinementStatus.CONVERGED):
        asked = []

        def refine(structures, potential, chosen, *, seeds):
            asked.append(chosen.anneal)
            return [Refined(refined.copy(), status, "", 0.1, 0.1, ()) for _ in structures]

        monkeypatch.setattr(jobs, "sample", lambda *_: [raw])
        monkeypatch.setattr(jobs, "refine", refine)
        for model in (jobs.Prior, jobs.Potential):
            monkeypatch.setattr(model, "load", lambda _: None)
        settings = PretrainingSettings(unit=unit, network_atoms=8, polish=POLISH, rattle_a=(0.05,))
        nowhere = "unused"
        return jobs.RefinedStructures(nowhere, settings, nowhere, nowhere, (2.3,), (7,)).make(), asked

    return make


def crystal(element, lattice_a, size_a):
    """Eight atoms of diamond's structure, displaced."""
    atoms = bulk(element, "diamond", a=lattice_a, cubic=True)
    atoms.rattle(size_a, seed=1)
    return atoms


def test_a_structure_is_labelled_as_generated_as_refined_and_at_rest(made):
    """The raw one first, the refined one where the oracle's way begins, a rattled copy, and the end: a network."""
    raw, refined = crystal("C", 3.6, 0.15), crystal("C", 3.6, 0.08)
    frames, _ = made("C", raw, refined)
    oracle = make_oracle("xtb", {})
    energies = [atoms.info["REF_energy"] for atoms in frames]
    assert energies[0] == pytest.approx(oracle.label(raw).energy_ev, abs=1e-5)
    assert energies[1] == pytest.approx(oracle.label(refined).energy_ev, abs=1e-5)
    assert len(frames) == 5
    assert networks(frames) == frames[-1:]
    assert energies[-1] == min(energies)
    assert {atoms.info["group"] for atoms in frames} == {"refined-7"}
    assert {atoms.info["density_g_cm3"] for atoms in frames} == {2.3}


def test_a_structure_that_could_not_be_refined_is_labelled_as_generated(made):
    frames, _ = made("C", crystal("C", 3.6, 0.1), crystal("C", 3.6, 0.1), RefinementStatus.EXPLODED)
    assert len(frames) == 1


def test_another_material_is_refined_at_its_own_temperatures(made):
    """Silicon melts at half of carbon's temperature."""
    silicon = crystal("Si", 5.43, 0.05)
    assert made("Si", silicon, silicon)[1] == [Anneal().scaled(0.5)]
