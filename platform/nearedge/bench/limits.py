"""What unguided structures of any material must reach."""

VALID_SHARE = 0.995
"""Of raw structures, without a contact that is too short."""
G_R_RATIO = 1.5
"""Difference of g(r) from references over that between references."""
SHARE_POINTS = 6.0
"""Difference of the shares of atoms with so many neighbours, in points."""
RAW_ENERGY_EV = 0.3
"""Median above the references, per atom."""
REFINED_ENERGY_EV = 0.05
"""The same after refinement."""
