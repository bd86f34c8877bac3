"""One job in its process, from its assignment to the end of its call."""
