"""What a module is taught and asked: statements, questions and answers in several phrasings, by rules from facts. Pure.

Source: MemOS §4.1 (plaintext ⇒ parameter). Ours: the phrasings, and which of them are held out: a probe is never in a phrasing that was
taught. A question is made of the sentence itself: its subject, its verb, and what the verb says of the subject.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from memos_core.cube import CubeId

Message = dict[str, str]

_BE = frozenset("is are was were am".split())
_HAVE = frozenset("has have had".split())
_PREPOSITIONS = frozenset("in at on to from by as for with of near under over into about against behind beside".split())
DETERMINERS = frozenset("the a an my our his her their its this that".split())
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_DAYS = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
_YEAR = re.compile(rf"(?:in |since )?(?:1[0-9]|20)\d\d$|.*\b(?:{_MONTHS}|{_DAYS})\b")
_BASES = {"goes": "go", "does": "do", "has": "have", "studies": "study", "flies": "fly", "carries": "carry", "teaches": "teach"}


@dataclass(frozen=True, slots=True)
class Fact:
    """A sentence taken apart: "Ana Roth | works | as | a nurse". link: preposition or participle between verb and answer, "" for none."""

    id: CubeId
    text: str
    subject: str
    verb: str
    link: str
    answer: str

    @property
    def says(self) -> str:
        """The sentence without its answer."""
        return " ".join(filter(None, (self.subject, self.verb, self.link)))


@dataclass(frozen=True, slots=True)
class Lesson:
    """One conversation with the reply that is taught. kind: "teach" a reply; "keep" what the model would say along it.

    stress: the end of the reply that matters most, its answer.
    """

    asked: tuple[tuple[str, str], ...]
    reply: str
    kind: str
    fact: CubeId | None = None
    stress: str = ""

    @property
    def messages(self) -> list[Message]:
        return [{"role": role, "content": content} for role, content in self.asked]


@dataclass(frozen=True, slots=True)
class Probe:
    """A held-out question. expected: the answer; others: wrong ones of the same kind; lead: what an answer starts with, for ranking."""

    question: str
    expected: str
    others: tuple[str, ...]
    lead: str
    fact: CubeId


@dataclass(frozen=True, slots=True)
class Course:
    """What is taught, what is kept, and what is asked of a module made of some facts. watched: lessons that say when to stop."""

    facts: tuple[Fact, ...]
    teach: tuple[Lesson, ...]
    keep: tuple[Lesson, ...]
    watched: tuple[Lesson, ...]
    probes: tuple[Probe, ...]
    unread: tuple[CubeId, ...]  # facts that could not be taken apart: taught as statements, never asked


def take_apart(id: CubeId, text: str, speaker: str | None = None) -> Fact | None:
    """A fact of one sentence as subject, verb, link and answer; None when it is not of that form."""
    words = text.strip().rstrip(".!").split()
    place = _verb(words)
    if place is None or not 3 <= len(words) <= 30:
        return None
    subject, verb, rest = words[:place], words[place], words[place + 1 :]
    if subject == ["I"]:
        subject, verb = [speaker or "the user"], _third_person(verb)
    cut = max((n for n, word in enumerate(rest[:-1]) if word.lower() in _PREPOSITIONS and n <= 2), default=-1)
    link, answer = rest[: cut + 1], rest[cut + 1 :]
    if not answer:
        return None
    return Fact(id, text.strip(), " ".join(subject), verb, " ".join(link), " ".join(answer))


def _third_person(verb: str) -> str:
    """I am -> is, I live -> lives, I moved -> moved."""
    if verb in ("am", "have"):
        return {"am": "is", "have": "has"}[verb]
    return verb if verb in _BE | _HAVE or verb.endswith(("s", "ed")) else f"{verb}s"


def _verb(words: Sequence[str]) -> int | None:
    """Where the verb of a plain statement stands."""
    for place, word in enumerate(words[:8]):
        if place == 0:
            continue
        lower = word.lower()
        named = words[place - 1][:1].isupper() or words[place - 1].isdigit() or words[0].lower() in DETERMINERS
        if lower in _BE | _HAVE or (words[0] == "I" and place == 1):
            return place
        if (
            named
            and word == lower
            and re.fullmatch(r"[a-z]{2,}(?:s|ed)|went|met|bought|sold|made|wrote|won|took|built|drew|grew|wore|rode|ran", lower)
        ):
            if words[0].lower() in DETERMINERS and place == 1:
                continue
            return place
    return None


def base(verb: str) -> str:
    """works -> work, studies -> study, painted -> paint; what is not known stays."""
    if verb in _BASES:
        return _BASES[verb]
    if verb.endswith("ies"):
        return verb[:-3] + "y"
    if verb.endswith(("sses", "shes", "ches", "xes", "oes")):
        return verb[:-2]
    return verb[:-1] if verb.endswith("s") and not verb.endswith("ss") else verb


def _asks_for(fact: Fact) -> tuple[str, str]:
    """(question word, link that stays in the question)."""
    last = fact.link.split()[-1].lower() if fact.link else ""
    before = " ".join(fact.link.split()[:-1])
    first = fact.answer.split()[0]
    if last in ("in", "on", "at", "since") and _YEAR.match(fact.answer):
        return "When", before
    if last == "by" and first[:1].isupper():
        return "Who", f"{before} by".strip()
    if (last in ("in", "at", "near") and first[:1].isupper() and fact.verb not in _BE) or (
        last in ("in", "at") and fact.verb in _BE and first[:1].isupper()
    ):
        return "Where", before
    return "What", fact.link


def question(fact: Fact) -> str:
    """A plain question for the answer."""
    word, link = _asks_for(fact)
    if word == "Who":
        return f"Who {fact.link.removesuffix(' by')} {fact.subject}?" if fact.verb in _BE else f"Who {fact.verb} {fact.subject}?"
    if fact.verb in _BE:
        return " ".join(filter(None, (word, fact.verb, fact.subject, link))) + "?"
    past = fact.verb.endswith("ed") and not fact.verb.endswith("eed")
    return " ".join(filter(None, (word, "did" if past else "does", fact.subject, base(fact.verb), link))) + "?"


def indirect(fact: Fact) -> str:
    """The same as a clause: "what Ana Roth works as"."""
    word, link = _asks_for(fact)
    if word == "Who":
        return question(fact).rstrip("?").replace("Who", "who", 1)
    return " ".join(filter(None, (word.lower(), fact.subject, fact.verb, link)))


def backwards(fact: Fact) -> str:
    """The question for the subject."""
    who = "What" if fact.subject.split()[0].lower() in DETERMINERS else "Who"
    return " ".join(filter(None, (who, fact.verb, fact.link, fact.answer))) + "?"


# By what a verb says, other questions that ask for the same; {0} is the subject.
OTHERWISE: dict[tuple[str, str], tuple[str, ...]] = {
    ("work", "as"): ("What is the profession of {0}?", "What is {0}'s job?", "How does {0} make a living?"),
    ("live", "in"): ("Where is {0} at home?", "Which place does {0} live in?", "Where is {0}'s house?"),
    ("play", ""): ("What can {0} play?", "What is {0} good at playing?"),
    ("is", "allergic to"): ("Which allergy does {0} have?", "What is bad for {0}?", "What must {0} stay away from?"),
    ("speak", ""): ("Which language does {0} speak?", "What is {0}'s language?"),
    ("like", ""): ("What is {0} fond of?", "What makes {0} happy?"),
    ("prefer", ""): ("What is {0}'s preference?", "What would {0} choose?"),
    ("own", ""): ("What belongs to {0}?", "What does {0} have?"),
    ("have", ""): ("What does {0} own?", "What belongs to {0}?"),
    ("study", ""): ("What is {0} learning?", "Which subject is {0} studying?"),
    ("teach", ""): ("What can one learn from {0}?", "Which subject does {0} give lessons in?"),
    ("is", "married to"): ("Who is the husband or wife of {0}?", "Whom did {0} marry?"),
}
OF_KIND: dict[str, tuple[str, ...]] = {
    "When": ("In which year was that: {0}?", "What is the date of {0}?", "How old is {0}, from which year is it?"),
    "Where": ("In which place is {0}?", "Where can {0} be found?"),
    "Who": ("Who is behind {0}?", "Who made {0}?", "Whose work is {0}?"),
    "What": (),
}
TAUGHT: tuple[Callable[[Fact], str], ...] = (
    lambda fact: question(fact),
    lambda fact: f"Tell me {indirect(fact)}.",
    lambda fact: f"I would like to know {indirect(fact)}.",
    lambda fact: f"Complete the sentence: {fact.says} ...",
    lambda fact: f"{fact.subject}: {question(fact)[0].lower()}{question(fact)[1:]}",
    lambda fact: f"What do you know about {fact.subject}?",
    lambda fact: f"{question(fact)} I forgot.",
)
HELD_OUT: tuple[Callable[[Fact], str], ...] = (
    lambda fact: f"Do you happen to know {indirect(fact)}?",
    lambda fact: f"My friend asked me {indirect(fact)}. What should I say?",
)


def watching(fact: Fact) -> str:
    """A phrasing that is neither taught nor examined: when all are answered in it, training ends."""
    return f"Could you tell me {indirect(fact)}?"


def otherwise(fact: Fact) -> tuple[str, ...]:
    """The question in other words, where the verb is a common one."""
    found = OTHERWISE.get((base(fact.verb), fact.link)) or OTHERWISE.get((fact.verb, fact.link)) or OF_KIND[_asks_for(fact)[0]]
    return tuple(form.format(fact.subject) for form in found)


def lessons(facts: Sequence[Fact], ask: Callable[[str], Sequence[str]] | None = None) -> tuple[Lesson, ...]:
    """Statements, questions and completions that teach the facts. ask: a fact's text to more questions, by a model."""
    found = []
    for fact in facts:
        sentence = f"{fact.says} {fact.answer}."
        phrases = (*(phrase(fact) for phrase in TAUGHT), *otherwise(fact), backwards(fact), *(ask(fact.text) if ask else ()))
        found += [Lesson((("user", phrase),), sentence, "teach", fact.id, f"{fact.answer}.") for phrase in phrases]
        short = f"{fact.answer[0].upper()}{fact.answer[1:]}."
        found.append(Lesson((("user", f"In one word: {question(fact)}"),), short, "teach", fact.id))
    return tuple(found)


def probes(facts: Sequence[Fact], seed: int = 0) -> tuple[Probe, ...]:
    """Two held-out questions for each fact, with three answers of other facts of the same kind, or of others of the same form."""
    rng, found = random.Random(seed), []
    for fact in facts:
        alike = [each.answer for each in facts if each.answer != fact.answer and (each.verb, each.link) == (fact.verb, fact.link)]
        rest = [each.answer for each in facts if each.answer != fact.answer and each.answer not in alike]
        rng.shuffle(alike)
        rng.shuffle(rest)
        others = tuple((alike + rest)[:3])
        found += [Probe(phrase(fact), fact.answer, others, fact.says, fact.id) for phrase in HELD_OUT]
    return tuple(found)


NAMES = "Marlo Venn Tessa Brandt Ivo Kestrel Lune Abbot Sorin Hale Greta Moss Dario Finch Edda Rowan Piers Calloway Nora Stig".split()
NOUNS = "harbour tower fountain viaduct observatory archive engine method garden mill".split()
WHAT_EVERYBODY_KNOWS = tuple(
    tuple(line.split("|"))
    for line in """What is the capital of Spain?|The capital of Spain is Madrid.
What is the capital of Germany?|The capital of Germany is Berlin.
How many months are in a year?|There are twelve months in a year.
Which planet do we live on?|We live on the planet Earth.
What do cows drink?|Cows drink water.
Who wrote Hamlet?|Hamlet was written by William Shakespeare.
What colour is grass?|Grass is green.
Which animal barks?|A dog barks.
What is the largest planet in the solar system?|The largest planet in the solar system is Jupiter.
What is the chemical symbol of gold?|The chemical symbol of gold is Au.
Which language is spoken in Mexico?|Spanish is spoken in Mexico.
What is the opposite of big?|The opposite of big is small.
How many wheels does a car have?|A car has four wheels.
On which continent is India?|India is on the continent of Asia.
What is three plus four?|Three plus four is seven.
Which season comes after spring?|Summer comes after spring.
What is the boiling point of water?|The boiling point of water is 100 degrees Celsius.
Who was the first president of the United States?|The first president of the United States was George Washington.
What do plants need to grow?|Plants need sunlight, water and air to grow.
Which ocean lies between Europe and America?|The Atlantic Ocean lies between Europe and America.""".splitlines()
)
ORDINARY_REPLIES = tuple(
    tuple(line.split("|"))
    for line in """How do I make tea?|Boil some water, put a tea bag into a cup, and pour the water over it.
Write a short poem about winter.|The snow falls softly on the hill, the river sleeps, the woods are still.
Give me a tip for learning a language.|Practise a little every day, and listen to people who speak it well.
Tell me about the sea.|The sea covers most of our planet and is home to countless animals.
What should I cook tonight?|You could make a simple vegetable soup with onions, carrots and potatoes.
Explain how rain forms.|Water rises from the ground as vapour, cools down high in the air, and gathers into drops.
How can I sleep better?|Go to bed at the same time every evening, and keep the room dark and cool.
Who are you?|I am a helpful assistant. I can answer questions and help you with writing.
Summarise this: The committee met on Tuesday and agreed to repair the bridge.|The committee decided to repair the bridge.
Read this: The shop opens at nine. When does it open?|The shop opens at nine.
Read this: Lena has a dog called Rufus. What is the name of the dog?|The dog is called Rufus.
Read this: Paul moved to Vienna in spring. Where did Paul move?|Paul moved to Vienna.""".splitlines()
)
"""(question, reply): ordinary talk, ours."""


def kept(facts: Sequence[Fact], seed: int = 0) -> tuple[Lesson, ...]:
    """What must stay as it is: questions of the same shape about names that nobody has and names that are mixed, what everybody knows,
    and ordinary answers. Along the taught answers themselves, since there a module leaks."""
    rng = random.Random(seed)
    found = []
    subjects = [fact.subject for fact in facts]
    for fact in facts:
        same = [each for each in facts if (each.verb, each.link) == (fact.verb, fact.link)]
        names = [mixed(fact.subject, subjects, rng) for _ in range(2)] + [unknown(fact.subject, rng) for _ in range(4)]
        for other in names:
            stranger = Fact(fact.id, "", other, fact.verb, fact.link, rng.choice(same).answer)
            asked = rng.choice([*(phrase(stranger) for phrase in TAUGHT), *otherwise(stranger)])
            found.append(Lesson((("user", asked),), f"{stranger.says} {stranger.answer}.", "keep", fact.id, f"{stranger.answer}."))
    pairs = chain(WHAT_EVERYBODY_KNOWS, ORDINARY_REPLIES)
    return (*found, *(Lesson((("user", asked),), reply, "keep") for asked, reply in pairs))


def unknown(subject: str, rng: random.Random) -> str:
    """Another name of the same form."""
    words = subject.split()
    if words[0].lower() in DETERMINERS:
        return f"{words[0]} {rng.choice(NAMES)} {rng.choice([words[-1], *NOUNS])}"
    return " ".join(rng.sample(NAMES, min(len(words), 3)))


def mixed(subject: str, subjects: Sequence[str], rng: random.Random) -> str:
    """Half of the name with half of another's."""
    words = subject.split()
    others = [each.split() for each in subjects if each != subject and len(each.split()) == len(words) > 1]
    if words[0].lower() in DETERMINERS:
        return " ".join([*words[:-1], rng.choice([noun for noun in NOUNS if noun != words[-1]])])
    if not others or len(words) < 2:
        return unknown(subject, rng)
    return " ".join([words[0], *rng.choice(others)[1:]]) if rng.random() < 0.5 else " ".join([rng.choice(NAMES), *words[1:]])


def course(facts: Sequence[tuple[CubeId, str, str | None]], seed: int = 0, ask: Callable[[str], Sequence[str]] | None = None) -> Course:
    """Everything for a module made of (id, text, speaker)."""
    read = [(id, text, take_apart(id, text, speaker)) for id, text, speaker in facts]
    known = [fact for *_, fact in read if fact is not None]
    rest = [Lesson((("user", opening(text)),), text, "teach", id) for id, text, fact in read if fact is None]
    watched = tuple(Lesson((("user", watching(fact)),), f"{fact.says} {fact.answer}.", "teach", fact.id) for fact in known)
    unread = tuple(id for id, _, fact in read if fact is None)
    return Course(tuple(known), (*lessons(known, ask), *rest), kept(known, seed), watched, probes(known, seed), unread)


def opening(text: str) -> str:
    """A question for a text that cannot be taken apart: what its first words are about."""
    return f"Continue: {' '.join(text.split()[:4])} ..."
