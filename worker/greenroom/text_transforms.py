"""What ``AgentSession(tts_text_transforms=...)`` takes: ``from greenroom import text_transforms``."""

from greenroom.speech.transforms import TextTransform, replace

__all__ = ["TextTransform", "replace"]
