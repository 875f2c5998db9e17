"""Column types: arrays, aware UTC timestamps, plain numbers and enums.

Arrays have one encoding everywhere, the NPY format of NumPy without pickles. To read one from any
client: ``numpy.load(io.BytesIO(blob), allow_pickle=False)``.
"""

import io
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from sqlalchemy import BigInteger, DateTime, Dialect, Double, Enum, LargeBinary
from sqlalchemy.types import TypeDecorator

_MAGIC = np.lib.format.magic(1, 0)
"""What NPY bytes of the first version begin with, the only one that is written here."""


def utc_now() -> datetime:
    """The present moment, aware, in UTC."""
    return datetime.now(UTC)


def encode_array(array: object, dtype: str | None = None) -> bytes:
    """NPY bytes of an array of numbers or booleans, in C order.

    Raises:
        ValueError: the array holds Python objects.
    """
    plain = np.asarray(array, dtype=dtype, order="C")
    if plain.dtype.hasobject:
        raise ValueError("an array of Python objects has no place in the database")
    return _header(plain.dtype, plain.shape) + plain.tobytes()


@lru_cache(maxsize=1024)
def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """What NPY bytes begin with; it takes longer to make than the rest, and a campaign has few shapes."""
    buffer = io.BytesIO()
    facts = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, facts)
    return buffer.getvalue()


def decode_array(blob: bytes) -> np.ndarray:
    """The array behind NPY bytes; never unpickles.

    Raises:
        ValueError: the bytes are none of an array of numbers, or not all of them.
    """
    if blob[: len(_MAGIC)] != _MAGIC:
        array: np.ndarray = np.load(io.BytesIO(blob), allow_pickle=False)
        return array
    start = len(_MAGIC) + 2 + int.from_bytes(blob[len(_MAGIC) : len(_MAGIC) + 2], "little")
    shape, order, dtype = _layout(blob[:start])
    return np.frombuffer(blob, dtype, offset=start).reshape(shape, order=order).copy(order)


@lru_cache(maxsize=1024)
def _layout(header: bytes) -> tuple[tuple[int, ...], Literal["C", "F"], np.dtype[Any]]:
    """Shape, order and type of the numbers behind these bytes; to read that takes longer than the numbers do."""
    buffer = io.BytesIO(header[len(_MAGIC) :])
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(buffer)
    if dtype.hasobject:
        raise ValueError("an array of Python objects is not unpickled (allow_pickle=False)")
    return shape, "F" if is_fortran else "C", dtype


class Array(TypeDecorator[np.ndarray]):
    """A NumPy array stored as NPY bytes, converted to ``dtype`` when one is given."""

    impl = LargeBinary
    cache_ok = True

    def __init__(self, dtype: str | None = None) -> None:
        super().__init__()
        self.dtype = dtype

    def process_bind_param(self, value: Any | None, dialect: Dialect) -> bytes | None:
        """Encode on the way in."""
        return None if value is None else encode_array(value, self.dtype)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> np.ndarray | None:
        """Decode on the way out."""
        return None if value is None else decode_array(bytes(value))

    def compare_values(self, x: Any, y: Any) -> bool:
        """Identity: arrays are replaced, never edited in place (``==`` would be an array)."""
        return x is y


class UTCDateTime(TypeDecorator[datetime]):
    """An aware timestamp, stored in UTC and always returned aware in UTC; naive ones are refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC; SQLite keeps no zone, so it gets the naive UTC time."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"timestamp without a time zone: {value!r}")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Attach or convert to UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Real(TypeDecorator[float]):
    """A double; takes NumPy scalars, which SQLite would otherwise store as blobs."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: Any | None, dialect: Dialect) -> float | None:
        """Convert to a Python float."""
        return None if value is None else float(value)


class Whole(TypeDecorator[int]):
    """A 64-bit integer; takes NumPy integers."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Any | None, dialect: Dialect) -> int | None:
        """Convert to a Python integer."""
        return None if value is None else int(value)


def enum_column(enum: type[StrEnum]) -> Enum:
    """A text column holding the values of ``enum``, checked by SQLAlchemy on the way in and out."""
    return Enum(
        enum, native_enum=False, length=16, values_callable=lambda members: [m.value for m in members]
    )
