"""``greenroom providers``."""
