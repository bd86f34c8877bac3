"""The worker's own process: lines to the server on one side, jobs on the other.

It loads no model, no plugin and none of the user's code.
"""
