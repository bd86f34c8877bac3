"""The contract suite over every provider, and what the table of faults asks of their servers."""
