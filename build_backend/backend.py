"""PEP 517 backend: setuptools, plus the torch that is already installed.

A `torch` among the build requirements would make pip download a second one into the isolated
build environment and compile against it. This backend looks for torch in the environment that
pip installs into and asks for one only if there is none.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  (the hooks not overridden below)

_TORCH = "torch>=2.10"


def _environment_with_torch() -> str | None:
    """The site-packages of the target environment if it holds a torch.

    In an isolated build `sys.prefix` is still the target environment's: pip isolates through
    PYTHONPATH and a sitecustomize that drops site-packages from sys.path.
    """
    for scheme in ("purelib", "platlib"):
        path = sysconfig.get_path(scheme)
        if os.path.isfile(os.path.join(path, "torch", "version.py")):
            return path
    return None


@contextmanager
def _visible_torch() -> Iterator[None]:
    site_packages = _environment_with_torch()
    if site_packages and site_packages not in sys.path:
        # Last, so that the isolated build tools win over the environment's.
        sys.path.append(site_packages)
    yield


def _requirements() -> list[str]:
    return [] if _environment_with_torch() else [_TORCH]


def get_requires_for_build_wheel(config_settings=None):
    return _requirements()


def get_requires_for_build_editable(config_settings=None):
    return _requirements()


def get_requires_for_build_sdist(config_settings=None):
    return []


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with _visible_torch():
        return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    with _visible_torch():
        return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
