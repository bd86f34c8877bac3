"""``greenroom providers``: the models that there are, that are configured, and that answer."""
