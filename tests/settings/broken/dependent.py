"""A module that needs what is not there."""

import a_library_nobody_has  # type: ignore[import-not-found]

__all__ = ["a_library_nobody_has"]
