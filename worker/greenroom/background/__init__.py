"""What is heard behind the agent's voice: ambient sound, a sound while it thinks, and whatever the agent plays."""

from __future__ import annotations

__all__: list[str] = []
