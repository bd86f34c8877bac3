"""Models that all calls of a worker use are loaded once, in a process of their own: the model host."""
