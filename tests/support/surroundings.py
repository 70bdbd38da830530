"""What a user's shell, a cluster's node and an outer `make` leave in the environment, and which no test may see."""

import os
from collections.abc import Mapping

SETTINGS = ("ALEXNET_", "AWS_", "CUDA_", "NVIDIA_")
"""How such variables begin; a test sets those that it is about"""
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
"""in capitals or not"""
MAKE = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "GPU", "LOAD", "NAMESPACE", "KEEP", "ROWS", "TAG", "REGISTRY", "BASE_IMAGE")
"""`make test` passes its own flags on, and our Makefile takes the others for settings"""


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """A copy without these variables, and without the AWS files in the home folder."""
    kept = {name: value for name, value in environment.items() if not name.startswith(SETTINGS) and name.upper() not in PROXIES + MAKE}
    return kept | {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
