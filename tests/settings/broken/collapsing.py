"""A module that cannot be imported."""

from fractions import Fraction

__all__ = ["HALF"]

HALF = Fraction("a half")
