"""Doubles of the outside world for tests: shipped, documented, and on loopback only."""
