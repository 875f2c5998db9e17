"""The settings of the pools: how many actors, and what Ray reserves for each."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from nearedge.section import Section

PoolName = Literal["generator", "scorer", "labeler", "trainer"]


def _whole_above_one(amount: float) -> float:
    if amount > 1 and not amount.is_integer():
        raise ValueError(f"must be a whole number above 1, not {amount:g}: a GPU is shared, or given whole")
    return amount


def _own_names(amounts: dict[str, float]) -> dict[str, float]:
    taken = sorted({"CPU", "GPU", "memory", "object_store_memory"} & set(amounts))
    if taken:
        raise ValueError(f"{taken[0]} is Ray's own: use cpus, gpus or memory_gib")
    return amounts


Amount = Annotated[float, Field(ge=0)]


class PoolConfig(Section):
    """One pool of Ray actors; cpus, gpus, memory and resources are what Ray reserves for each of them."""

    size: int = Field(1, ge=1)
    """Actors that it has a right to, as far as the nodes have room."""
    max_size: int | None = Field(None, ge=1)
    """Actors that it may grow to while its work waits and others leave room; default: ``size``."""
    cpus: float = Field(0.3, ge=0)
    gpus: Annotated[float, AfterValidator(_whole_above_one)] = Field(0.0, ge=0)
    memory_gib: float = Field(0.0, ge=0)
    """Memory, GiB: it decides where there is room for an actor, and does not limit what the actor takes."""
    resources: Annotated[dict[str, Amount], AfterValidator(_own_names)] = Field(default_factory=dict)
    task_minutes: float | None = Field(None, gt=0)
    """Longest time of one piece of work; a process that takes longer is killed, and the work tried again."""

    @model_validator(mode="after")
    def _grows(self) -> "PoolConfig":
        if self.max_size is not None and self.max_size < self.size:
            raise ValueError(f"max_size must be at least size, not {self.max_size} for a size of {self.size}")
        return self

    @property
    def most(self) -> int:
        """Actors that it may have."""
        return self.size if self.max_size is None else self.max_size


def default_pools() -> dict[PoolName, PoolConfig]:
    """Those of a laptop."""
    sizes: dict[PoolName, int] = {"generator": 1, "scorer": 1, "labeler": 2, "trainer": 2}
    return {name: PoolConfig(size=size) for name, size in sizes.items()}
