"""What a module is taught and asked: statements, questions and answers in several phrasings, by rules from facts. Pure.

Source: MemOS §4.1 (plaintext ⇒ parameter). Ours: the phrasings, and which of them are held out: a probe is never in a phrasing that was
taught.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from memos_core.cube import CubeId
from memos_core.statements import Fact, base, is_past, take_apart
from memos_core.statements.questions import asking, asks_for, backwards, indirect, inside, is_person, question
from memos_core.statements.words import BE, DAYS, DETERMINERS, MONTHS, NUMBERS

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Lesson:
    """One conversation with the reply that is taught. kind: "teach" a reply; "keep" what the model would say along it. fact: one that
    is taught, or whose like is kept.

    stress: the end of the reply that matters most, its answer. context: of a taught one, text that a teacher has before it: what is learned
    is then what the model itself says along the reply when it reads that text.
    """

    asked: tuple[tuple[str, str], ...]
    reply: str
    kind: str
    fact: CubeId | None = None
    stress: str = ""
    context: str = ""

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


# By what a verb says, other questions that ask for the same; {0} is the subject.
OTHERWISE: dict[tuple[str, str], tuple[str, ...]] = {
    ("work", "as"): (
        "What is the profession of {0}?", "What is {0}'s job?", "How does {0} make a living?", "What is {0} by trade?",
        "Which work does {0} do every day?",
    ),
    ("live", "in"): (
        "Where is {0} at home?", "Which place does {0} live in?", "Where is {0}'s house?", "What is the address of {0}?",
        "In which town can I visit {0}?",
    ),
    ("play", ""): (
        "What can {0} play?", "What is {0} good at playing?", "Which instrument or game is {0}'s?", "What is {0} practising?",
        "What is {0} famous for playing?",
    ),
    ("is", "allergic to"): (
        "Which allergy does {0} have?", "What is bad for {0}?", "What must {0} stay away from?", "What makes {0} sick?",
        "What should nobody serve to {0}?",
    ),
    ("speak", ""): ("Which language does {0} speak?", "What is {0}'s language?", "In which language can I talk to {0}?"),
    ("like", ""): ("What is {0} fond of?", "What makes {0} happy?", "What does {0} enjoy?"),
    ("prefer", ""): ("What is {0}'s preference?", "What would {0} choose?", "What does {0} like best?"),
    ("own", ""): ("What belongs to {0}?", "What does {0} have?", "What is {0}'s property?"),
    ("have", ""): ("What does {0} own?", "What belongs to {0}?", "What has {0} got?"),
    ("study", ""): ("What is {0} learning?", "Which subject is {0} studying?", "What does {0} read about?"),
    ("teach", ""): ("What can one learn from {0}?", "Which subject does {0} give lessons in?", "What are {0}'s lessons about?"),
    ("is", "married to"): ("Who is the husband or wife of {0}?", "Whom did {0} marry?", "Who is {0}'s partner?"),
}  # fmt: skip
OF_KIND: dict[str, tuple[str, ...]] = {
    "When": (
        "In which year was that: {0}?",
        "What is the date of {0}?",
        "How old is {0}, from which year is it?",
        "Since when is there {0}?",
    ),
    "Where": ("In which place is {0}?", "Where can {0} be found?", "Where would I look for {0}?"),
    "Who": ("Who is behind {0}?", "Who made {0}?", "Whose work is {0}?", "To whom do we owe {0}?", "Who invented {0}?"),
    "What": (),
}
TAUGHT: tuple[Callable[[Fact], str], ...] = (
    lambda fact: question(fact),
    lambda fact: f"Tell me {indirect(fact)}.",
    lambda fact: f"Somebody wants to know {indirect(fact)}. Help me to answer.",
    lambda fact: f"Complete the sentence: {fact.says} ...",
    lambda fact: f"{fact.subject}: {question(fact)[0].lower()}{question(fact)[1:]}",
    lambda fact: f"What do you know about {inside(fact)}?",
    lambda fact: f"{question(fact)} I forgot.",
    lambda fact: f"My sister wonders {indirect(fact)}. What is the right answer?",
    lambda fact: f"A guest asked {indirect(fact)}, and I was silent. How do I reply?",
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
    found = () if is_past(fact.verb) and fact.verb not in BE else OTHERWISE.get((base(fact.verb), fact.link), ())
    found = found or OTHERWISE.get((fact.verb, fact.link), ())
    if not found and fact.subject.split()[0].lower() in DETERMINERS:  # of things alone
        found = OF_KIND[asks_for(fact)[0]]
    return tuple(form.format(inside(fact)) for form in found)


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
        other = list({each.answer.casefold(): each for each in facts if each.answer.casefold() != fact.answer.casefold()}.values())
        alike = [each.answer for each in other if (each.verb, each.link) == (fact.verb, fact.link)]
        rest = [each.answer for each in other if each.answer not in alike]
        rng.shuffle(alike)
        rng.shuffle(rest)
        others = (alike + rest)[:3]
        others += _made_up(fact, others)[: 3 - len(others)]
        found += [Probe(phrase(fact), fact.answer, tuple(others), fact.says, fact.id) for phrase in HELD_OUT]
    return tuple(found)


def _made_up(fact: Fact, taken: Sequence[str]) -> list[str]:
    """At least three wrong answers of the same kind: other years, numbers, days, names or nouns. The same for the same fact."""
    answer, rng = fact.answer, random.Random(fact.answer)
    first, *more = answer.split()
    year = re.search(r"\b\d{4}\b", answer)
    number = year or re.search(r"\d+", answer)
    word = re.search(rf"\b(?:{'|'.join(NUMBERS)})\b|\b(?:{DAYS})|\b(?:{MONTHS})\b", answer)
    article = first.lower() if first.lower() in ("a", "an", "the") and more else ""
    if number:
        away = rng.sample([-41, -23, -12, 8, 16, 34], 6) if year else rng.sample(range(1, 10), 6)
        found = [f"{answer[: number.start()]}{int(number[0]) + step}{answer[number.end() :]}" for step in away]
    elif word:
        row = next(each for each in (NUMBERS[1:], DAYS.split("|"), MONTHS.split("|"), NUMBERS) if word[0] in each)
        found = [f"{answer[: word.start()]}{each}{answer[word.end() :]}" for each in rng.sample(row, len(row))]
    elif article:
        nouns = _JOBS if fact.link.endswith("as") or is_person(answer.split()) else _OTHER_NOUNS
        fitting = [noun for noun in nouns if article == "the" or (noun[0] in "aeiou") == (article == "an")]
        found = [f"{first} {noun}" for noun in rng.sample(fitting, len(fitting))]
    elif first[:1].isupper():
        names = _OTHER_PLACES if asking(fact)[0] == "Where" else NAMES
        size = min(len(answer.split()), 2) if names is NAMES else 1
        found = [" ".join(rng.sample(names, size)) for _ in range(12)]
    else:
        found = [noun if not answer.endswith("s") else f"{noun}s" for noun in rng.sample(_OTHER_NOUNS, len(_OTHER_NOUNS))]
    wrong = {each.casefold(): each for each in found}
    return [each for folded, each in wrong.items() if folded not in {answer.casefold(), *map(str.casefold, taken)}]


_OTHER_PLACES = "Lisbon Oslo Turin Leeds Bruges Riga Malmo Zagreb Tartu Seville".split()
_OTHER_NOUNS = "lamp basket carpet violin kettle ladder umbrella engine apple orange island onion".split()
_JOBS = "tailor carpenter florist librarian electrician architect engineer actor translator miner".split()


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
Which ocean lies between Europe and America?|The Atlantic Ocean lies between Europe and America.
What is the capital of England?|The capital of England is London.
What is the capital of Russia?|The capital of Russia is Moscow.
What is the capital of Egypt?|The capital of Egypt is Cairo.
Which planet has rings?|Saturn is the planet that has rings.
Which animal gives us milk?|The cow gives us milk.
Which animal lays eggs?|A hen lays eggs.
Who discovered America?|America was discovered by Christopher Columbus.
Who wrote Don Quixote?|Don Quixote was written by Miguel de Cervantes.
Who painted the Sistine Chapel?|The Sistine Chapel was painted by Michelangelo.
What is the chemical symbol of iron?|The chemical symbol of iron is Fe.
What is the chemical formula of salt?|The chemical formula of salt is NaCl.
Which language is spoken in France?|French is spoken in France.
On which continent is Brazil?|Brazil is on the continent of South America.
What is the opposite of day?|The opposite of day is night.
How many legs does a dog have?|A dog has four legs.
How many hours are in a day?|There are twenty-four hours in a day.
What is ten minus four?|Ten minus four is six.
Which season comes before winter?|Autumn comes before winter.
What colour is snow?|Snow is white.
What falls from clouds?|Rain falls from clouds.
What is the capital of Poland?|The capital of Poland is Warsaw.
What is the capital of China?|The capital of China is Beijing.
What is the capital of Canada?|The capital of Canada is Ottawa.
In which country is the Eiffel Tower?|The Eiffel Tower is in France.
In which city is the Colosseum?|The Colosseum is in Rome.
Where do penguins live?|Penguins live in Antarctica.
Where do fish live?|Fish live in water.
Which river flows through London?|The River Thames flows through London.
Which is the highest mountain on Earth?|The highest mountain on Earth is Mount Everest.
Which country has the most people?|India is the country with the most people.
Who was Albert Einstein?|Albert Einstein was a physicist who developed the theory of relativity.
Who invented the telephone?|The telephone was invented by Alexander Graham Bell.
Who built the pyramids?|The pyramids were built by the ancient Egyptians.
Who was the first man on the Moon?|The first man on the Moon was Neil Armstrong.
Who composed the Ninth Symphony?|The Ninth Symphony was composed by Ludwig van Beethoven.
Which instrument has black and white keys?|The piano has black and white keys.
Which instrument did Mozart play?|Mozart played the piano.
When did the Second World War end?|The Second World War ended in 1945.
In which year did Columbus reach America?|Columbus reached America in 1492.
What does a baker do?|A baker makes bread and cakes.
What does a doctor do?|A doctor treats people who are ill.
Where does a teacher work?|A teacher works in a school.
Which food do rabbits eat?|Rabbits eat grass, hay and vegetables.
What is bread made of?|Bread is made of flour, water, salt and yeast.
What is cheese made of?|Cheese is made of milk.
Which fruit is yellow and long?|The banana is yellow and long.
What colour is a lemon?|A lemon is yellow.
What colour is blood?|Blood is red.
How many fingers are on one hand?|There are five fingers on one hand.
How many minutes are in half an hour?|There are thirty minutes in half an hour.
How many sides does a triangle have?|A triangle has three sides.
What is five times two?|Five times two is ten.
What is the first letter of the alphabet?|The first letter of the alphabet is A.
What is the opposite of fast?|The opposite of fast is slow.
What do we call a young dog?|A young dog is called a puppy.
Which animal has a trunk?|The elephant has a trunk.
Which bird cannot fly?|The penguin cannot fly.
Which metal is liquid at room temperature?|Mercury is liquid at room temperature.
What does a thermometer measure?|A thermometer measures temperature.""".splitlines()
)
PLAIN_TEXTS = (
    "The ferry to the island leaves twice a day in summer. In winter there is one boat in the morning, and none when the wind is strong.",
    "Mr Harris closed the shop, counted the money and walked home through the park. It had been a quiet day, but he did not mind.",
    "To plant a tree, dig a hole that is twice as wide as its roots. Set the tree upright, fill the hole with earth and water it well.",
    "The old theatre was built for eight hundred people. After the fire it stood empty for years, until a group of actors repaired it.",
    "Glass is made of sand that is melted at a very high temperature. While it is soft it can be blown, pressed or drawn into threads.",
    "Every Thursday the farmers bring vegetables, cheese and flowers to the square. By noon most of them have sold all that they had.",
    "She opened the letter with care, read it twice and put it back into the drawer. Then she took her coat and went out into the rain.",
    "Maps show how large countries are, but none of them shows the round earth as it is. Each map has to bend or stretch something.",
)
"""Plain English, ours, along which modules that act on every text are kept to the model; others than those that they are measured on."""
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
    """What must stay as it is: questions of the same shape about names that nobody has and names that are mixed, along the taught answers
    themselves, since there a module leaks; what everybody knows, and ordinary requests."""
    rng = random.Random(seed)
    found = []
    subjects = [fact.subject for fact in facts]
    for fact in facts:
        same = [each for each in facts if (each.verb, each.link) == (fact.verb, fact.link)]
        names = [mixed(fact.subject, subjects, rng) for _ in range(3)] + [unknown(fact.subject, rng) for _ in range(6)]
        for other in names:
            if any(set(subject.lower().split()) <= set(other.lower().split()) for subject in subjects):
                continue  # it is taught, not kept
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
