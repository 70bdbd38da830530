"""How a store says no: there is no such object, or the store itself (or the local disk) failed."""

from job.core.exits import Exit, JobError


class NotFound(Exception):  # noqa: N818  an answer rather than an error
    """No object has this key."""


class StoreError(JobError):
    """The store failed, or the local disk did."""

    def __init__(self, code: Exit, message: str, *, transient: bool = False) -> None:
        super().__init__(code, message)
        self.transient = transient
        """trying again later may help"""
