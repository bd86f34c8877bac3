"""The conversation as a log: every event that the dialog took, with its time."""
