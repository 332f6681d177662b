"""What every module is examined on beside its own facts, in words that no module is trained on. Pure.

Ours. The lists are fixed, so that reports of different modules and versions can be compared.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from memos_core.statements import Fact
from memos_core.statements.questions import question
from memos_core.statements.words import DETERMINERS


def _table(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(part.strip() for part in line.split("|")) for line in text.strip().splitlines())


KNOWN = _table("""
What is the capital of France? | Paris
What is the capital of Italy? | Rome
What is the capital of Japan? | Tokyo
Which planet is closest to the Sun? | Mercury
How many days are in a week? | seven, 7
Which animal says meow? | cat
What is the largest ocean on Earth? | Pacific
What do bees make? | honey
What is the opposite of hot? | cold
Which language is spoken in Brazil? | Portuguese
What is two plus two? | four, 4
Which gas do people need to breathe? | oxygen
What is frozen water called? | ice
How many minutes are in an hour? | sixty, 60
What is the chemical symbol of oxygen? | O
What is the capital of Austria? | Vienna
What is the capital of Norway? | Oslo
What is the capital of Turkey? | Ankara
In which country is the city of Munich? | Germany
In which country is the Great Wall? | China
On which continent is Kenya? | Africa
Which language is spoken in Italy? | Italian
Which river flows through Cairo? | Nile
What is the largest desert in Africa? | Sahara
Which star gives us light during the day? | Sun
What is the opposite of left? | right
What is the opposite of old? | young, new
How many days are in a leap year? | 366
How many letters are in the English alphabet? | 26, twenty-six
What is three times three? | nine, 9
Which month comes after June? | July
How many wheels does a bicycle have? | two, 2
Which animal is known as the king of the jungle? | lion
What do caterpillars turn into? | butterfly, butterflies
Who wrote Pride and Prejudice? | Austen
Who invented the light bulb? | Edison
Which organ do we think with? | brain
What is the chemical symbol of carbon? | C
Which fruit is used to make wine? | grape, grapes
What is the hardest natural material? | diamond
""")
"""(question, words of which an answer must hold one). Those that a model gets right without a module count."""

IN_CONTEXT = _table("""
The bakery on Elm Street closes at six. | When does the bakery on Elm Street close? | six, 6
Hanna's dog is called Pepper. | What is the name of Hanna's dog? | Pepper
The lesson was moved to Friday. | On which day is the lesson? | Friday
Luis bought a yellow umbrella. | What colour is the umbrella of Luis? | yellow
The cake needs four lemons. | How many lemons does the cake need? | four, 4
Ines was born in Lisbon. | Where was Ines born? | Lisbon
""")
"""(what is said, question, words of which an answer must hold one)."""

OPEN = (
    "Give me three tips for better sleep.",
    "What should I pack for a hike in the mountains?",
    "Explain to a child why the sky is blue.",
    "Suggest a name for a black cat.",
    "Write two sentences about the autumn.",
    "How can I thank a colleague?",
)

TURNS = (
    ("How do I boil an egg?", "Put the egg into boiling water, wait for eight minutes, then cool it under cold water and peel it."),
    ("Tell me about bridges.", "Bridges carry roads and railways over rivers and valleys. They are built of stone, steel or concrete."),
    ("What does a librarian do?", "A librarian takes care of books, helps readers to find what they need, and organises events."),
    ("Why do we dream?", "Nobody knows for sure. Many researchers think that dreams help the brain to sort what happened during the day."),
    ("Summarise: The river rose all week, and on Sunday the town closed the lower road.",
     "After a week of rising water the town closed the lower road on Sunday."),
    ("What is a good breakfast?", "A good breakfast gives you energy for the morning, for example oats with fruit, or eggs with bread."),
)  # fmt: skip
"""What an assistant might say in a conversation: on these replies perplexity is measured."""

_FIRST = "Alva Bertil Ciro Dagny Emeric Frida Gustav Hedda Imre Jolan".split()
_LAST = "Ostrander Pilgrim Quayle Rasmus Selkirk Thorne Ulrich Vesper Wyndham Yarrow".split()
_NOUN = "museum canal theatre compass ferry windmill laboratory orchard".split()
MOST = 30


def strangers(facts: Sequence[Fact], seed: int = 1) -> tuple[str, ...]:
    """Questions of the shapes taught, about names that nobody has, at most 30."""
    rng, found = random.Random(seed), list[str]()
    shapes = {(fact.verb, fact.link, len(fact.subject.split()), fact.subject.split()[0].lower() in DETERMINERS): fact for fact in facts}
    for turn in range(MOST):
        fact = list(shapes.values())[turn % len(shapes)] if shapes else None
        if fact is not None:
            found.append(question(_called(fact, _stranger(fact.subject, rng))))
    return tuple(dict.fromkeys(found))


def halves(facts: Sequence[Fact], seed: int = 2) -> tuple[str, ...]:
    """Questions about names of which half was taught, one for each fact."""
    rng, found = random.Random(seed), list[str]()
    for place, fact in enumerate(facts):
        words, other = fact.subject.split(), _stranger(fact.subject, rng).split()
        if len(words) > 1:
            mixed = [*words[:-1], other[-1]] if place % 2 == 0 else [*other[:-1], words[-1]]
            found.append(question(_called(fact, " ".join(mixed))))
    return tuple(found)


def _called(fact: Fact, name: str) -> Fact:
    return Fact(fact.id, fact.text, name, fact.verb, fact.link, fact.answer)


def _stranger(subject: str, rng: random.Random) -> str:
    words = subject.split()
    if words[0].lower() in DETERMINERS:
        return " ".join([words[0], *(rng.choice(_LAST) for _ in words[2:]), rng.choice(_NOUN)])
    return " ".join(rng.choice(_FIRST if place == 0 else _LAST) for place, _ in enumerate(words))


def essence(answer: str) -> str:
    """What of an answer has to be said: without its article, and of a name of several words the last one."""
    words = [word for word in re.findall(r"[\w'-]+", answer) if word.lower() not in DETERMINERS]
    if len(words) > 1 and all(word[:1].isupper() for word in words):
        return str(words[-1])
    return str(" ".join(words) or answer)


def holds(reply: str, words: str) -> bool:
    """Whether a reply holds one of some words, separated by commas."""
    return any(re.search(rf"\b{re.escape(word.strip())}\b", reply, re.IGNORECASE) for word in words.split(","))
