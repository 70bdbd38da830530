"""Before anything else: an environment of the tests' own, for them and for every process that they start."""

import os

from tests.support.surroundings import without_settings


def pytest_configure() -> None:
    kept = without_settings(os.environ)
    os.environ.clear()
    os.environ.update(kept)
