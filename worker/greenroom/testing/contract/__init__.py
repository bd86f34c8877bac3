"""What every provider has to keep: one class of tests for each kind, for plugins of ours and of others.

A plugin's test module subclasses the contract of its kind and says what is tested::

    from greenroom.testing.contract import STTContract

    class TestMySTT(STTContract):
        @pytest.fixture
        def provider(self) -> STT:
            return MySTT(MyOptions())

        @pytest.fixture
        def speech(self) -> Speech:          # a recording with words, where the provider is to find them
            return Speech(read_wav("hello.wav"), "hello")

        @pytest.fixture
        def failing(self) -> STT:            # one that cannot work: wrong key, missing model
            return MySTT(MyOptions(api_key="wrong"))

The tests are coroutines for ``pytest-asyncio``. ``patience`` (a class attribute, seconds) is how long an answer may
take; ``promptness`` how long stopping may.
"""

import pytest

# So that failing assertions are explained; it has to be said before the modules are imported.
pytest.register_assert_rewrite(*(f"{__name__}.{kind}" for kind in ("llm", "realtime", "stt", "tts", "turn", "vad")))

from greenroom.testing.contract.llm import LLMContract  # noqa: E402
from greenroom.testing.contract.loop import Heartbeat, Leftovers  # noqa: E402
from greenroom.testing.contract.realtime import RealtimeContract  # noqa: E402
from greenroom.testing.contract.speech import Speech  # noqa: E402
from greenroom.testing.contract.stt import STTContract  # noqa: E402
from greenroom.testing.contract.tts import TTSContract  # noqa: E402
from greenroom.testing.contract.turn import TurnDetectorContract  # noqa: E402
from greenroom.testing.contract.vad import VADContract  # noqa: E402

__all__ = [
    "Heartbeat",
    "LLMContract",
    "Leftovers",
    "RealtimeContract",
    "STTContract",
    "Speech",
    "TTSContract",
    "TurnDetectorContract",
    "VADContract",
]
