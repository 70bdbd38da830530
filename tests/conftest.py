"""Before anything else: an environment of the tests' own, for them and for every process that they start."""

import os

from hypothesis import settings

from tests.support.surroundings import without_settings

settings.register_profile("steady", deadline=None)  # how long an example takes says more about the other processes of the machine
settings.load_profile("steady")


def pytest_configure() -> None:
    kept = without_settings(os.environ)
    os.environ.clear()
    os.environ.update(kept)
