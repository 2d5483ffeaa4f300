"""Seeded synthetic forgeries: region shapes, traces of processing, and their composition."""

from ansm_fast.data.synthesis.forgery import Forgery, ForgeryMix, make_forgery
from ansm_fast.data.synthesis.writer import synthesize

__all__ = ["Forgery", "ForgeryMix", "make_forgery", "synthesize"]
