"""What is done when a model fails: it is asked again, another one is asked, and the first one again once it is well.

``request`` decides for one request, ``listening`` for one stream of a transcriber, ``health`` for the models of one
process: pure machines, with their rules in words at the head of each. Around them, one class a kind of model, which is
a model of that kind itself: ``ResilientLLM([Candidate("openai", a), Candidate("ollama", b)])``.
"""
