import numpy as np
import pytest
from ase.build import bulk

from nearedge.bench.kept import Kept, fingerprint


def diamond(shift_a=0.0):
    atoms = bulk("C", "diamond", 3.567, cubic=True)
    atoms.positions[0, 0] += shift_a
    return atoms


def test_what_was_made_is_not_made_again(tmp_path):
    calls = []

    def make():
        calls.append(1)
        return [diamond(1 / 3)], {"seconds": 2.5}

    first = Kept(tmp_path).get("step", [diamond()], {"seed": 1}, make)
    again = Kept(tmp_path).get("step", [diamond()], {"seed": 1}, make)
    assert len(calls) == 1
    assert first[1] == again[1] == {"seconds": 2.5}
    np.testing.assert_array_equal(first[0][0].positions, again[0][0].positions)


def test_a_making_that_was_cut_off_does_not_count(tmp_path):
    kept = Kept(tmp_path)

    def broken():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept.get("step", [], {}, broken)
    kept.get("step", [], {}, lambda: ([diamond()], {}))
    (facts,) = tmp_path.glob("*.json")
    facts.unlink()  # as if killed between the structures and their record
    structures, _ = kept.get("step", [], {}, lambda: ([diamond(), diamond()], {}))
    assert len(structures) == 2


def test_nothing_made_is_kept_as_well(tmp_path):
    kept = Kept(tmp_path)
    assert kept.get("label", [diamond()], {}, lambda: ([], {"failed": "no"})) == ([], {"failed": "no"})
    assert kept.get("label", [diamond()], {}, lambda: ([diamond()], {})) == ([], {"failed": "no"})


def test_all_that_decides_is_part_of_the_name():
    fixed = diamond()
    fixed.set_array("fixed", np.ones(8, dtype=bool))
    larger = diamond()
    larger.set_cell(1.01 * larger.cell)
    names = [
        fingerprint([diamond()], {"seed": 1}),
        fingerprint([diamond()], {"seed": 2}),
        fingerprint([diamond(1e-6)], {"seed": 1}),
        fingerprint([fixed], {"seed": 1}),
        fingerprint([larger], {"seed": 1}),
        fingerprint([diamond(), diamond()], {"seed": 1}),
    ]
    assert len(set(names)) == len(names)
    assert fingerprint([diamond()], {"seed": 1}) == names[0]
