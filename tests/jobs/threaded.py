"""Starts a thread when it is imported, as no module should that is preloaded."""

from __future__ import annotations

import threading

threading.Thread(target=threading.Event().wait, daemon=True).start()
