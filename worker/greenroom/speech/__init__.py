"""How an agent sounds, beside its model: the words that are spoken, the sound that is kept, how loud it is."""
