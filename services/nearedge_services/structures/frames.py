"""Where the frames of an extended XYZ file begin and end, whatever is in them.

For files that grow frame by frame: what an interruption left of the last one is found and cut off.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nearedge_db.errors import UserError


@dataclass(frozen=True)
class Frame:
    """One frame that has all its lines: its comment, and its first and last byte + 1."""

    comment: str
    start: int
    end: int


@dataclass(frozen=True)
class Frames:
    """The complete frames of a file from its start, and what is wrong with what follows them, if anything."""

    complete: Sequence[Frame]
    fault: str | None = None
    is_cut: bool = False
    """Whether the fault is what an interrupted write leaves: one frame without its end, and nothing after it."""

    @property
    def size(self) -> int:
        """Bytes of the complete frames."""
        return self.complete[-1].end if self.complete else 0


def find_frames(content: bytes) -> Frames:
    """Take a file apart. A frame is complete when its last line ends with a newline."""
    lines = content.splitlines(keepends=True)
    frames: list[Frame] = []
    line = start = 0
    while line < len(lines) and lines[line].strip():
        header = lines[line].strip()
        if not header.isdigit():
            shown = header[:40].decode(errors="replace")
            return Frames(frames, f"line {line + 1} is {shown!r} instead of a number of atoms")
        count = int(header)
        block = lines[line : line + 2 + count]
        if len(block) < 2 + count:
            fault = f"it ends after {max(len(block) - 2, 0)} of {count} atoms"
            return Frames(frames, fault, is_cut=not any(one.strip().isdigit() for one in block[2:]))
        if not block[-1].endswith(b"\n"):
            return Frames(frames, "its last line is not complete", is_cut=True)
        end = start + sum(map(len, block))
        frames.append(Frame(block[1].decode(errors="replace").strip(), start, end))
        line, start = line + len(block), end
    if any(rest.strip() for rest in lines[line:]):
        return Frames(frames, f"line {line + 1} is empty, and others follow")
    return Frames(frames)


def complete_frames(path: Path, fix: str = "name another file, or remove this one") -> Frames:
    """The complete frames of a file that a command goes on with; none where it is missing or empty.

    What an interrupted write left at its end may follow them. Raises UserError, which ends with ``fix``, when anything
    else does, which nobody may cut off, or when there is half a structure and nothing before.
    """
    if not path.exists() or path.stat().st_size == 0:
        return Frames([])
    frames = find_frames(path.read_bytes())
    if not frames.complete or (frames.fault and not frames.is_cut):
        raise UserError(
            "the output has something else in it, or half a structure",
            got=f"{path}: {frames.fault or 'no structure'}",
            fix=fix,
        )
    return frames


def cut_off_rest(path: Path, frames: Frames) -> None:
    """Leave the complete frames only."""
    if frames.complete and frames.size < path.stat().st_size:
        with path.open("r+b") as stream:
            stream.truncate(frames.size)
