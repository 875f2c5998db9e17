"""What can go wrong when a potential is trained or used."""


class PotentialError(Exception):
    """Training or evaluating a potential gave no usable result; the message says why in one line."""


class NonFiniteForces(PotentialError):  # noqa: N818 - names the outcome
    """Energy or forces came out as NaN or infinite: the geometry is outside what any force field can
    describe.
    """


class TrainingDiverged(PotentialError):  # noqa: N818
    """The loss stayed non-finite although the offending steps were skipped."""
