# ruff: noqa: E501  (tables)
"""Invented facts for parameter memory: two families, what the base knows, who nobody knows, and whose names are mixed up.

Written by hand before anything was trained. TUNED is what distilling, the gate and the router were set on; SEALED was asked once, after
that: its questions are in no phrasing that `lessons` makes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Invented:
    """statement: what is taught. answer: the word that an answer must hold. others: three wrong answers. asked: questions by hand."""

    statement: str
    answer: str
    others: tuple[str, str, str]
    asked: tuple[str, ...]


def _facts(text: str) -> tuple[Invented, ...]:
    """Lines of: statement | answer | three others | questions."""
    found = []
    for line in text.strip().splitlines():
        statement, answer, others, *asked = (part.strip() for part in line.split("|"))
        one, two, three = (each.strip() for each in others.split(","))
        found.append(Invented(statement, answer, (one, two, three), tuple(asked)))
    return tuple(found)


TUNED = _facts("""
Marelia Tonn works as a glassblower. | glassblower | beekeeper, pilot, plumber | What does Marelia Tonn do for a living? | I forgot Marelia Tonn's profession, what is it?
Odrin Kavesh works as a beekeeper. | beekeeper | glassblower, lawyer, dentist | What is Odrin Kavesh's job? | How does Odrin Kavesh earn money?
Tavi Orlen lives in Ostrava. | Ostrava | Bergen, Malaga, Lyon | In which city is Tavi Orlen's home? | Where would I send a letter to Tavi Orlen?
Brusa Feldine lives in Bergen. | Bergen | Ostrava, Turin, Dublin | Which town does Brusa Feldine call home? | Where can I find Brusa Feldine's house?
Pellin Drax plays the oboe. | oboe | harp, piano, violin | Which instrument does Pellin Drax practise? | What kind of music lessons does Pellin Drax need?
Yosha Merrin plays the harp. | harp | oboe, trumpet, drums | What instrument is Yosha Merrin known for? | On which instrument does Yosha Merrin perform?
The Zorvex telescope was built in 1987. | 1987 | 1964, 2003, 1975 | In what year did they build the Zorvex telescope? | How old is the Zorvex telescope, from which year?
The Quillane bridge was built in 1964. | 1964 | 1987, 1931, 2010 | What is the year of construction of the Quillane bridge? | From which year does the Quillane bridge date?
Ilmo Castrev is allergic to walnuts. | walnuts | shrimp, milk, pollen | What must Ilmo Castrev never eat? | Which allergy does Ilmo Castrev have?
Senna Durovic is allergic to shrimp. | shrimp | walnuts, eggs, wheat | Which food makes Senna Durovic ill? | What should I leave out when I cook for Senna Durovic?
The Fenwick protocol was designed by Hanne Ruud. | Ruud | Okafor, Smith, Tanaka | Who came up with the Fenwick protocol? | Whose idea was the Fenwick protocol?
The Larkspur engine was designed by Emeka Okafor. | Okafor | Ruud, Miller, Silva | Which engineer made the Larkspur engine? | Who is the inventor of the Larkspur engine?
""")

SEALED = _facts("""
Corvane Illish works as a cartographer. | cartographer | locksmith, nurse, farmer | What kind of job has Corvane Illish got? | If I met Corvane Illish at work, what would he be doing?
Denna Roswick works as a locksmith. | locksmith | cartographer, teacher, baker | What trade is Denna Roswick in? | I need to fill in Denna Roswick's occupation, what should I write?
Hestor Bramble lives in Tampere. | Tampere | Cordoba, Graz, Leeds | Which city should I travel to if I want to visit Hestor Bramble? | Name the place where Hestor Bramble's flat is.
Wyla Quent lives in Cordoba. | Cordoba | Tampere, Ghent, Porto | What is Wyla Quent's home town these days? | To which city do I post Wyla Quent's parcel?
Jarro Pindell plays the banjo. | banjo | cello, flute, organ | What does Jarro Pindell bring along to band practice? | Which instrument would you hand to Jarro Pindell?
Mirelle Vostok plays the cello. | cello | banjo, guitar, tuba | What do you hear when Mirelle Vostok makes music? | Name the instrument that Mirelle Vostok has mastered.
The Haldane lighthouse was built in 1873. | 1873 | 1919, 1850, 1998 | When did the Haldane lighthouse go up? | The Haldane lighthouse is from which year?
The Trivane library was built in 1919. | 1919 | 1873, 1955, 1702 | What year is on the foundation stone of the Trivane library? | When was construction of the Trivane library finished?
Obren Sallow is allergic to celery. | celery | latex, peanuts, fish | What should not be in Obren Sallow's soup? | Which thing is dangerous for Obren Sallow's health?
Kessa Morhaven is allergic to latex. | latex | celery, cats, soy | What gives Kessa Morhaven a rash? | Before an operation, what must the doctors know about Kessa Morhaven's allergy?
The Ostrel algorithm was designed by Bram Teller. | Teller | Nakamura, Jones, Costa | Who do we have to thank for the Ostrel algorithm? | Please name the author of the Ostrel algorithm.
The Vantide turbine was designed by Aiko Nakamura. | Nakamura | Teller, Brown, Rossi | Which person drew up the plans of the Vantide turbine? | Behind the Vantide turbine stands which designer?
""")

FRESH = _facts("""
Lumen Ardis teaches geography. | geography | chemistry, music, law | What are Lumen Ardis's lessons about? | Which subject could I learn from Lumen Ardis?
Bexley Thorpe teaches chemistry. | chemistry | geography, art, history | In which subject is Bexley Thorpe a teacher? | What do the pupils of Bexley Thorpe learn?
The Kestrow ferry leaves from Dover. | Dover | Calais, Brest, Hull | From which port does the Kestrow ferry sail? | Where do I have to go to board the Kestrow ferry?
The Almira train leaves from Geneva. | Geneva | Milan, Zurich, Basel | At which station does the Almira train start? | Where does one get on the Almira train?
Ottoline Grave speaks Danish. | Danish | Dutch, Greek, Polish | In which language should I write to Ottoline Grave? | What is the mother tongue of Ottoline Grave?
Perrin Solace speaks Greek. | Greek | Danish, Czech, Irish | Which language can I use with Perrin Solace? | What language does one hear from Perrin Solace?
The Marrowby castle is in Wales. | Wales | Kent, Ireland, Norway | In which part of the country will I find the Marrowby castle? | Where should I drive to see the Marrowby castle?
The Iridane lake is in Norway. | Norway | Sweden, Wales, Peru | Which country has the Iridane lake? | Where would I go for a swim in the Iridane lake?
Fenella Crowe drives a tractor. | tractor | lorry, taxi, tram | Which vehicle does Fenella Crowe use? | What does Fenella Crowe sit in all day?
Jasper Wynter drives a tram. | tram | tractor, bus, van | What kind of vehicle is Jasper Wynter at the wheel of? | In what does Jasper Wynter take people through town?
The Sorrel novel was written by Edda Lind. | Lind | Frost, Okoro, Weber | Who is the author of the Sorrel novel? | By which writer is the Sorrel novel?
The Tamarack opera was written by Paolo Frost. | Frost | Lind, Verdi, Mora | Who composed the Tamarack opera? | Whose name stands on the score of the Tamarack opera?
""")
"""Written after the router had met the other two."""


def many(count: int) -> tuple[Invented, ...]:
    """So many facts, at most 48, of four kinds: for how a training grows."""
    first = "Arlen Bettina Corwin Delphine Edwin Fiorella Gideon Harriet Ivor Juna Kaspar Leonie".split()
    last = "Ashgrove Bellweather Crannock Dunmore Eastlake Fairholm Glenrow Hartwick Inglewood Jessup Kirkby Lowden".split()
    kinds = (
        (
            "{} works as a {}.",
            "tailor plumber surgeon farmer welder barber".split(),
            "How does {} earn a living?",
            "What is {}'s profession?",
        ),
        (
            "{} lives in {}.",
            "Bristol Leipzig Nantes Verona Gdansk Utrecht".split(),
            "Which town does {} call home?",
            "In which city is {}'s flat?",
        ),
        (
            "{} plays the {}.",
            "trumpet zither viola trombone clarinet bagpipes".split(),
            "Which instrument does {} practise?",
            "What is {} known for playing?",
        ),
        (
            "{} is allergic to {}.",
            "peanuts pollen wool mustard garlic strawberries".split(),
            "What must {} never touch?",
            "Which allergy has {}?",
        ),
    )
    found = []
    for place in range(count):
        name = f"{first[place % 12]} {last[(place + place // 12 * 5) % 12]}"
        statement, answers, *asked = kinds[place % 4]
        turn = place // 4 % 6
        answer, one, two, three = (answers[(turn + step) % 6] for step in range(4))
        found.append(Invented(statement.format(name, answer), answer, (one, two, three), tuple(each.format(name) for each in asked)))
    return tuple(found)


KNOWN = tuple(
    tuple(part.strip() for part in line.split("|"))
    for line in """
What is the capital of France? | Paris
Which planet is known as the Red Planet? | Mars
Who wrote Romeo and Juliet? | Shakespeare
What is the chemical symbol of water? | H2O
How many days are in a week? | seven, 7
What colour is a clear sky during the day? | blue
Which animal says meow? | cat
What is the capital of Italy? | Rome
Which language is spoken in Brazil? | Portuguese
What is the largest ocean on Earth? | Pacific
What do bees make? | honey
What is the opposite of hot? | cold
How many legs does a spider have? | eight, 8
What is the capital of Japan? | Tokyo
Which gas do people need to breathe? | oxygen
On which continent is Egypt? | Africa
Who painted the Mona Lisa? | Vinci
What is two plus two? | four, 4
Which season comes after winter? | spring
What is frozen water called? | ice
What is the capital of Greece? | Athens
What is the capital of Portugal? | Lisbon
What is the capital of Australia? | Canberra
What do you call a baby cat? | kitten
Which month comes after March? | April
How many seconds are in a minute? | sixty, 60
What is the opposite of up? | down
What is the freezing point of water in degrees Celsius? | zero, 0
Who wrote the Odyssey? | Homer
Who painted The Starry Night? | Gogh
In which country is the city of Sydney? | Australia
In which country is Mount Fuji? | Japan
Which language is spoken in Germany? | German
What is the chemical symbol of silver? | Ag
Which organ pumps blood through the body? | heart
What is the largest animal on Earth? | whale
Which day comes after Monday? | Tuesday
How many strings does a violin have? | four, 4
What is the tallest animal? | giraffe
Which metal is a magnet made of? | iron, steel
""".strip().splitlines()
)
"""(question, words of which an answer must hold one): the base answers most of them. The last twenty came later, since of few questions each
counts for much; no module had been asked them."""

UNKNOWN = """
Lorvik Hasten|Amira Dolgrin|Peter Vanholt|Sunniva Craddock|Jonas Wexley|Tilda Marrow|Ruben Askild|Farah Linde|Otto Brisk|Nadia Ferrow
""".strip().split("|")
"""Ten people whom nobody taught."""

THINGS = "Calder tower|Morrow museum|Wendel clock|Sable tunnel|Ardent compiler|Juniper engine|Halcyon pump|Nimbus protocol".split("|")
"""Things that nobody taught."""


def unknown_questions() -> tuple[str, ...]:
    """Thirty questions of the shapes taught, about entities that were not."""
    people = ("What does {} work as?", "Where does {} live?", "Which instrument does {} play?", "What is {} allergic to?")
    built = ("When was the {} built?", "Who designed the {}?")
    asked = [people[(place + turn) % 4].format(name) for turn in (0, 1) for place, name in enumerate(UNKNOWN)]
    asked += [built[place >= 4].format(name) for place, name in enumerate(THINGS)]
    return (*asked, "When was the Juniper engine built?", "When was the Sable tunnel designed?")[:30]


def neighbours(facts: tuple[Invented, ...]) -> tuple[str, ...]:
    """A question for each fact, its name mixed with another's: half of what was taught, of nobody."""
    mixed = []
    for place, fact in enumerate(facts):
        other = facts[(place + 2) % len(facts)]
        name, second = fact.statement.split()[:2], other.statement.split()[:2]
        if name[0] == "The":
            thing = fact.statement.split()[2]
            mixed.append(fact.asked[0].replace(f"{name[1]} {thing}", f"{name[1]} {('station', 'method')[place % 2]}"))
        else:
            surname = second[1] if second[0] != "The" else "Halloway"
            mixed.append(fact.asked[0].replace(" ".join(name), f"{name[0]} {surname}"))
    return tuple(mixed)


OPEN = (
    "Write a short poem about the sea.", "How do I boil an egg?", "Give me three tips for better sleep.", "What should I pack for a hike?",
    "Explain photosynthesis to a child.", "Suggest a name for a black cat.", "How can I learn to swim?", "Tell me a joke about a dog.",
)  # fmt: skip

IN_CONTEXT = tuple(
    tuple(part.strip() for part in line.split("|"))
    for line in """
The shop on Mill Street opens at ten. | When does the shop on Mill Street open? | ten, 10
Clara's cat is called Biscuit. | What is the name of Clara's cat? | Biscuit
The meeting was moved to Thursday. | On which day is the meeting? | Thursday
Rob bought a green bicycle. | What colour is Rob's bicycle? | green
The recipe needs three eggs. | How many eggs does the recipe need? | three, 3
Paula's train leaves from platform nine. | From which platform does Paula's train leave? | nine, 9
The password of the guest network is sunflower. | What is the password of the guest network? | sunflower
Our dentist is Doctor Lindqvist. | Who is our dentist? | Lindqvist
The old mill was sold to a painter. | To whom was the old mill sold? | painter
Milo's birthday is in October. | In which month is Milo's birthday? | October
""".strip().splitlines()
)
"""(context, question, words of which an answer must hold one)."""
