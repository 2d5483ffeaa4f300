"""Defend image-forgery localization against adversarial noise, with fused losses and kernels."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("ansm_fast")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+source"
