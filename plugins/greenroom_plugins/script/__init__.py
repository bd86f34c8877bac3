"""A language model made of rules: for demos, phone menus and tests. It needs no network, no weights and no time.

::

    llm:
      plugin: script
      first_token: 0.2                  # seconds until the first word, and between words; 0 by default
      gap: 0.03
      rules:
        - instructions: greet           # a reply that nobody asked for: on its and the agent's instructions
          say: Hello, this is the Blue Door. How can I help?
        - when: "what time|how late"    # patterns on what the user said last; letter case does not matter
          say: ["It is {time}.", "Still {time}."]       # in turn
        - when: "weather in (?P<city>[a-z]+)"
          say: Let me look.             # spoken while the tool runs; may be left out
          call: {tool: get_weather, arguments: {city: "{city}"}}
        - after: get_weather            # the tool has answered
          say: "In {city}: {output}"
          when: "weather in (?P<city>[a-z]+)"           # the user's last words again, for what is in them
        - failed: get_weather           # the tool raised an error
          say: The weather service does not answer.
        - when: "^(sales|one)"          # a menu: rules with a state hold only in that state
          state: start
          goto: sales
          say: Sales. New order or open order?
        - when: "new"
          state: sales
          goto: start
          say: I connect you.
      otherwise: ["Sorry?", "Please say that in other words."]
      unprompted: Hello.

The first rule that fits answers. A rule fits when its state does and each of its triggers does. A tool's answer for
which there is no rule is spoken as it is.

In what is said and in a tool's arguments ``{1}``, ``{name}`` stand for the groups of the pattern that matched, ``{0}``
for all it matched, ``{time}`` and ``{date}`` for now (``timezone``, ``time_format``, ``date_format``), ``{output}`` for
what the tool answered, ``{{`` and ``}}`` for braces.

The model has no memory of its own. Which state a conversation is in, and whose turn it is among several answers,
follows from the conversation that it is given, so that the same conversation always gets the same answer.
"""

from greenroom.providers import Plugin
from greenroom_plugins.script.llm import ScriptLLM
from greenroom_plugins.script.options import Call, Rule, ScriptOptions

__all__ = ["Call", "Rule", "ScriptLLM", "ScriptOptions", "plugin"]

plugin = Plugin(
    kinds={"llm": "greenroom_plugins.script:ScriptLLM"},
    options={"llm": ScriptOptions},
    extra="script",
)
