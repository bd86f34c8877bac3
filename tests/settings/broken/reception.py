"""An agent's module, for the settings beside it."""

from greenroom import Agent

__all__ = ["OPENING", "Menu", "NightPorter", "Reception"]

OPENING = 8


class Reception(Agent):
    """By day."""


class NightPorter(Reception):
    """By night."""


class Menu:
    """No agent."""
