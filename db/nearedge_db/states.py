"""The enums of the schema: what state a row is in, and what it is for."""

from enum import StrEnum


class TaskState(StrEnum):
    """Life of a task in the ledger.

    ``PENDING`` waits; ``LEASED`` is being worked on until its lease expires; ``RETRY`` failed and waits
    for another attempt; ``DONE`` has its result in the database; ``QUARANTINED`` failed for good, with the
    reason kept; ``CANCELLED`` is no longer wanted.
    """

    PENDING = "PENDING"
    LEASED = "LEASED"
    DONE = "DONE"
    RETRY = "RETRY"
    QUARANTINED = "QUARANTINED"
    CANCELLED = "CANCELLED"

    def is_finished(self) -> bool:
        """Whether no more work will be done on it."""
        return self in (TaskState.DONE, TaskState.QUARANTINED, TaskState.CANCELLED)


class CampaignState(StrEnum):
    """Life of a campaign; ``STOPPED`` can be continued, ``FINISHED`` met its stopping rule."""

    CREATED = "CREATED"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    FINISHED = "FINISHED"
    FAILED = "FAILED"

    def is_finished(self) -> bool:
        """Whether no driver is expected to be working on it."""
        return self in (CampaignState.STOPPED, CampaignState.FINISHED, CampaignState.FAILED)


class CandidateState(StrEnum):
    """Life of a generated structure.

    ``WAITING`` for a place at the oracle; ``REJECTED`` by the gates (validity, novelty); ``QUEUED`` has a
    label task; ``LABELLED``; ``DROPPED`` while waiting (re-scored too low); ``FAILED`` at the oracle.
    """

    WAITING = "WAITING"
    REJECTED = "REJECTED"
    QUEUED = "QUEUED"
    LABELLED = "LABELLED"
    DROPPED = "DROPPED"
    FAILED = "FAILED"

    def is_finished(self) -> bool:
        """Whether its state will not change any more."""
        return self not in (CandidateState.WAITING, CandidateState.QUEUED)


class GenerationState(StrEnum):
    """Life of one batch of generated structures.

    ``OPEN`` is being made; ``SCORED`` has all its candidates; ``CLOSED`` came to nothing or belongs to a
    finished campaign (its candidates may still wait: a larger budget takes them up again).
    """

    OPEN = "OPEN"
    SCORED = "SCORED"
    CLOSED = "CLOSED"


class StructureOrigin(StrEnum):
    """Where a structure of a campaign came from.

    ``SEED_PATH`` is a frame of a seed's relaxation, ``SEED_RATTLED`` a seed with random displacements.
    """

    SEED = "seed"
    SEED_PATH = "seed_path"
    SEED_RATTLED = "seed_rattled"
    BASELINE = "baseline"
    GUIDED = "guided"
    IMPORTED = "imported"


class GenerationRole(StrEnum):
    """Whether a generation was unguided (the baseline to beat) or guided."""

    BASELINE = "baseline"
    GUIDED = "guided"


class LabelRole(StrEnum):
    """What a campaign uses a label for; ``CONFIRM`` is a check by another oracle."""

    SEED = "seed"
    BASELINE = "baseline"
    GUIDED = "guided"
    CONFIRM = "confirm"


class TaskKind(StrEnum):
    """The kinds of work in the ledger; ``TRACK`` tells MLflow of a finished training."""

    SEED = "seed"
    LABEL = "label"
    TRAIN = "train"
    TRACK = "track"


class ModelKind(StrEnum):
    """The three models that a campaign trains."""

    PRIOR = "prior"
    SURROGATE = "surrogate"
    POTENTIAL = "potential"
