"""The tests, and what measures: all of it runs with numpy on one thread, as every job does.

OpenBLAS shares even a small product among threads that wait for each other; where other processes want the processor,
a listener of ours would stand still for whole seconds of a call. It reads the variable while numpy is imported.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
