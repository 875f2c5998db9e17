"""What is wrong with an extended XYZ file that cannot be read: which frame, and why."""

import io

from ase.io import read
from ase.io.extxyz import XYZError, key_val_str_to_dict, parse_properties

from nearedge_services.structures.frames import Frame, find_frames

# ASE lets whatever its parser trips over escape.
PARSER_ERRORS = (
    XYZError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AssertionError,
    StopIteration,
    RuntimeError,
)
_LONGEST_REASON = 120


def diagnose(content: bytes) -> str | None:
    """The first frame that cannot be read, from 0, and why; None where every frame alone can be."""
    frames = find_frames(content)
    for number, frame in enumerate(frames.complete):
        reason = _fault_of(content[frame.start : frame.end], frame)
        if reason is not None:
            return f"frame {number}: {reason}"
    return None if frames.fault is None else f"frame {len(frames.complete)}: {frames.fault}"


def _fault_of(block: bytes, frame: Frame) -> str | None:
    try:
        read(io.StringIO(block.decode(), newline=None), index=0, format="extxyz")
    except PARSER_ERRORS as error:
        return _fault_of_atoms(block.decode(errors="replace"), frame) or reason_of(error)
    return None


def _fault_of_atoms(text: str, frame: Frame) -> str | None:
    """The first atom that has too few columns, or a word where a number must be."""
    try:
        properties = key_val_str_to_dict(frame.comment).get("Properties", "species:S:1:pos:R:3")
        converters = parse_properties(properties)[3]
    except PARSER_ERRORS:
        return None
    for number, line in enumerate(text.splitlines()[2:]):
        values = line.split()
        if len(values) < len(converters):
            return f"atom {number} has {len(values)} of {len(converters)} columns"
        for converter, value in zip(converters, values, strict=False):
            try:
                converter(value)
            except ValueError:
                return f"{value!r} of atom {number} is not a number"
    return None


def reason_of(error: Exception) -> str:
    """One line of an error of the parser."""
    text = " ".join(str(error).split())[:_LONGEST_REASON]
    if isinstance(error, KeyError):
        return f"unknown name {text}"
    return text or type(error).__name__
