"""What the spectrum alone says, and whether the best structures agree with it, in plain words."""

from nearedge.inferred import TYPICAL, Inferred
from nearedge.labelled import Recovered

NAMES = {
    "density_g_cm3": "density",
    "cn2_fraction": "two-fold share",
    "cn3_fraction": "three-fold share",
    "cn4_fraction": "four-fold share",
}


def shown(name: str, value: float) -> str:
    """A density to two digits, a share in whole percent."""
    return f"{value:.2f}" if name == "density_g_cm3" else f"{value:.0%}"


def verdict(inferred: Inferred, recovered: dict[str, Recovered]) -> str:
    """Whether the best structures agree with what the spectrum says, or why that cannot be said."""
    if inferred.refusal is not None:
        return f"What the spectrum alone says cannot be told: {inferred.refusal}{_because(inferred)}."
    if not inferred.known:
        return (
            f"The library does not know such spectra: fewer than {TYPICAL:.0%} of its own networks have one as "
            f"unusual as the target (typicality {inferred.typicality:.2g}). What the spectrum alone is said to say "
            "means little here, and the best structures are not judged by it."
        )
    if not recovered:
        return "There is no best structure yet to compare with what the spectrum alone says."
    outside = inferred.outside(recovered)
    if not outside:
        return "In density and coordination the best structures agree with what the spectrum alone says."
    return (
        "The best structures disagree with what the spectrum alone says: "
        f"{'; '.join(_difference(name, inferred, recovered) for name in outside)}. Their distance alone does not make "
        "them right, for strained networks can be bent to a spectrum: where they disagree, do not take theirs for "
        "measured."
    )


def basis(inferred: Inferred) -> str | None:
    """What the inference rests on; None where there is none."""
    if inferred.refusal is not None:
        return None
    source = (
        "networks that come with the program" if inferred.shipped else "starting structures of the campaign"
    )
    return (
        f"What the spectrum says is inferred from {inferred.networks} {source}{_because(inferred)}, whose density, "
        "coordination and spectra are known. Structures of the search have no part in it, for they were bent to the "
        "target. The intervals are made to hold the truth in nine of ten cases for networks made as those were. For "
        "networks made otherwise they are too narrow, and neither the oracle's error nor that of an alignment is in "
        "them."
    )


def _because(inferred: Inferred) -> str:
    return f" (no other library fits: {inferred.misfit})" if inferred.misfit else ""


def _difference(name: str, inferred: Inferred, recovered: dict[str, Recovered]) -> str:
    interval, unit = inferred.properties[name], " g/cm³" if name == "density_g_cm3" else ""
    said = (
        f"{shown(name, interval.median)} ({shown(name, interval.low)} to {shown(name, interval.high)}){unit}"
    )
    return f"{NAMES[name]} {shown(name, recovered[name].mean)} instead of {said}"
