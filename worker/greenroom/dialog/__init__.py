"""What to say, and when. Pure: stdlib only, no loop, no clock, no I/O."""
