"""Pairs of everyday statements, older and newer, with what the newer has to do with the older: updates, contradictions, near misses.

Written for this project. Each family is a few templates and a few fillings of them; `pairs()` gives every combination, always the same.
The near misses matter most: another subject, another attribute, another time, both can be true, questions, suppositions, others' words.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True, slots=True)
class Pair:
    older: str
    newer: str
    relation: str  # contradicts | duplicate | refines | unrelated
    update: bool  # the newer says in words that something changed
    family: str


PEOPLE = (("Ana", "Ben"), ("Mia", "Omar"), ("Priya", "Lucas"))
CITIES = (("Lisbon", "Oslo"), ("Berlin", "Toronto"), ("Nairobi", "Lima"), ("San Diego", "New Delhi"))
FIRMS = (("Nokia", "Siemens"), ("the city library", "a law firm"), ("Acme", "Globex"))
PETS = (("dog", "Rex", "Bruno"), ("cat", "Tom", "Misty"), ("parrot", "Coco", "Kiwi"))
DRINKS = (
    ("coffee", "drinking"),
    ("meat", "eating"),
    ("cheese", "eating"),
    ("beer", "drinking"),
    ("chocolate", "eating"),
    ("wine", "drinking"),
)
EVENTS = (
    ("meeting with the auditors", "3 pm", "4 pm"),
    ("dentist appointment", "May 3", "May 10"),
    ("flight to Rome", "Tuesday", "Thursday"),
    ("job interview", "9:30", "11:15"),
)
FAVOURITES = (
    ("colour", "blue", "green"),
    ("band", "Muse", "Radiohead"),
    ("food", "sushi", "ramen"),
    ("author", "Le Guin", "Calvino"),
    ("season", "autumn", "spring"),
)
COUNTS = (
    ("recipes", "cookbook", "38", "47"),
    ("members", "chess club", "twelve", "fifteen"),
    ("tests", "suite", "120", "134"),
    ("chapters", "novel", "8", "9"),
)
RATES = (
    ("test coverage", "61%", "74%"),
    ("error rate", "9%", "2%"),
    ("response time", "320 ms", "180 ms"),
    ("monthly rent", "$900", "$1,050"),
)
DEEDS = (
    ("visited Japan", "I spent two weeks visiting temples in Japan last spring."),
    ("written any Rust code", "I wrote a small parser in Rust code over the weekend."),
    ("attended any writing workshop", "I just attended a writing workshop at the library on Saturday."),
    ("used a password manager like Bitwarden", "I have been using Bitwarden as my password manager since March."),
    ("run a marathon", "I ran the Berlin marathon in under four hours."),
    ("submitted my thesis to Professor Lund", "I submitted the thesis to Professor Lund on Monday."),
)

# (family, older, newer, relation, update, fillings); a template may use {0}, {1}, ... of one filling.
FAMILIES: tuple[tuple[str, str, str, str, bool, tuple[tuple[str, ...], ...]], ...] = (
    # -------------------------------------------------- where somebody lives and works
    ("residence moved", "{0} lives in {2}.", "{0} moved to {3}.", "contradicts",
        True, tuple((*p, *c) for p, c in product(PEOPLE, CITIES))),
    ("residence ended", "{0} lives in {2}.", "{0} no longer lives in {2}.", "contradicts",
        True, tuple((*p, *c) for p, c in product(PEOPLE, CITIES))),
    ("residence plain", "I live in {0}.", "I live in {1}.", "contradicts", False, CITIES),
    ("residence now", "I'm based in {0}.", "I'm now living in {1}.", "contradicts", True, CITIES),
    ("residence relocated", "We live in {0}.", "We have relocated to {1}.", "contradicts", True, CITIES),
    ("residence other person", "{0} lives in {2}.", "{1} lives in {3}.", "unrelated",
        False, tuple((*p, *c) for p, c in product(PEOPLE, CITIES))),
    ("residence other person ended", "{0} lives in {2}.", "{1} no longer lives in {2}.", "unrelated",
        False, tuple((*p, *c) for p, c in product(PEOPLE, CITIES))),
    ("residence past", "I live in {0}.", "I lived in {1} as a child.", "unrelated", False, CITIES),
    ("residence visit", "{0} lives in {2}.", "{0} visited {3}.", "unrelated",
        False, tuple((*p, *c) for p, c in product(PEOPLE[:2], CITIES))),
    ("residence supposed", "I live in {0}.", "If I moved to {1}, I would need a new job.", "unrelated", False, CITIES),
    ("residence asked", "I live in {0}.", "Should I move to {1}?", "unrelated", False, CITIES),
    ("residence planned", "I live in {0}.", "I'm thinking of moving to {1}.", "unrelated", False, CITIES),
    ("residence told", "I live in {0}.", "{2} said she lives in {1}.", "unrelated",
        False, tuple((*c, p[0]) for c, p in zip(CITIES, PEOPLE, strict=False))),
    ("residence same", "I live in {0}.", "I am living in {0}.", "duplicate", False, CITIES),
    ("employer joined", "I work at {0}.", "I just joined {1}.", "contradicts", True, (FIRMS[0], FIRMS[2])),
    ("employer quit", "I work at {0}.", "I quit my job at {0}.", "contradicts", True, FIRMS),
    ("employer plain", "{2} works for {0}.", "{2} works for {1}.", "contradicts",
        False, tuple((*f, p[0]) for f, p in zip(FIRMS, PEOPLE, strict=True))),
    ("employer past", "I work at {1}.", "I worked at {0} until 2019.", "unrelated", False, FIRMS),
    ("employer other person", "I work at {0}.", "My sister works at {1}.", "unrelated", False, FIRMS),
    ("employer used to", "I work at {0}.", "I used to work at {0}.", "contradicts", True, FIRMS),
    # -------------------------------------------------- names, favourites and other single values
    ("pet renamed", "My {0} is called {1}.", "My {0} is called {2}.", "contradicts", False, PETS),
    ("pet name same", "My {0} is called {1}.", "My {0}'s name is {1}.", "duplicate", False, PETS),
    ("pet other", "My {0} is called {1}.", "My {3} is called {4}.", "unrelated",
        False, tuple((*a, *b[:2]) for a, b in ((PETS[0], PETS[1]), (PETS[1], PETS[2]), (PETS[2], PETS[0])))),
    ("pet name and age", "My {0} is called {1}.", "My {0} is three years old.", "unrelated", False, PETS),
    ("pet other owner", "My {0} is called {1}.", "Her {0} is called {2}.", "unrelated", False, PETS),
    ("favourite changed", "My favourite {0} is {1}.", "My favourite {0} is {2} now.", "contradicts", True, FAVOURITES),
    ("favourite plain", "My favourite {0} is {1}.", "My favorite {0} is {2}.", "contradicts", False, FAVOURITES),
    ("favourite other owner", "My favourite {0} is {1}.", "My brother's favourite {0} is {2}.", "unrelated", False, FAVOURITES),
    ("favourite other thing", "My favourite {0} is {1}.", "My favourite {3} is {4}.", "unrelated",
        False, tuple((*a, *b[:2]) for a, b in zip(FAVOURITES, FAVOURITES[1:] + FAVOURITES[:1], strict=True))),
    ("address changed", "My {0} is {1}.", "My new {0} is {2}.", "contradicts", True, (("email", "ana@post.org", "ana.silva@mail.net"),
        ("phone number", "555-1234", "555-9876"), ("address", "12 Elm Street", "4 Oak Avenue"))),
    ("number other", "My {0} is {1}.", "My {2} is {3}.", "unrelated", False, (("phone number", "555-1234", "room number", "212"),
        ("email", "ana@post.org", "address", "4 Oak Avenue"))),
    # -------------------------------------------------- tastes and habits
    ("habit stopped", "I love {0}.", "I stopped {1} {0}.", "contradicts", True, DRINKS),
    ("habit gave up", "I {2} {0} every day.", "I gave up {1} {0}.", "contradicts", True, tuple((d[0], d[1], d[1][:-3]) for d in DRINKS)),
    ("habit any more", "I {2} {0}.", "I don't {2} {0} anymore.", "contradicts", True, tuple((d[0], d[1], d[1][:-3]) for d in DRINKS)),
    ("taste hates", "I love {0}.", "I hate {0}.", "contradicts", False, DRINKS),
    ("taste not", "{2} likes {0}.", "{2} doesn't like {0}.", "contradicts",
        False, tuple((*d, p[0]) for d, p in product(DRINKS, PEOPLE[:2]))),
    ("taste other person", "I love {0}.", "{2} hates {0}.", "unrelated",
        False, tuple((*d, p[1]) for d, p in product(DRINKS, PEOPLE[:2]))),
    ("taste other thing", "I love {0}.", "I love {2}.", "unrelated",
        False, tuple((a[0], a[1], b[0]) for a, b in zip(DRINKS, DRINKS[1:] + DRINKS[:1], strict=True))),
    ("taste other thing denied", "I love {0}.", "I don't like {2}.", "unrelated",
        False, tuple((a[0], a[1], b[0]) for a, b in zip(DRINKS, DRINKS[1:] + DRINKS[:1], strict=True))),
    ("taste supposed", "I love {0}.", "If I stopped {1} {0}, I would sleep better.", "unrelated", False, DRINKS),
    ("taste told", "I love {0}.", "My doctor said I don't like {0} enough.", "unrelated", False, DRINKS),
    ("taste liked", "I love {0}.", "I really like {0}.", "duplicate", False, DRINKS),
    ("allergy denied", "I am allergic to {0}.", "I'm not allergic to {0}.", "contradicts", False, (("nuts",), ("penicillin",),
        ("pollen",))),
    ("allergy other", "I am allergic to {0}.", "I am allergic to {1}.", "unrelated", False, (("nuts", "pollen"),
        ("penicillin", "nuts"), ("pollen", "cats"))),
    # -------------------------------------------------- having
    ("counted other thing", "I have {0} {1}.", "I have {0} {2}.", "unrelated", False, (("two", "brothers", "sisters"),
        ("three", "cats", "dogs"), ("two", "bikes", "cars"))),
    ("counted changed", "I have {0} {2}.", "I have {1} {2}.", "contradicts", False, (("two", "three", "brothers"),
        ("three", "four", "cats"), ("two", "one", "bikes"))),
    ("sold", "I have a {0}.", "I sold my {0}.", "contradicts", True, (("car",), ("motorbike",), ("piano",), ("boat",))),
    ("sold other thing", "I have a {0}.", "I sold my {1}.", "unrelated", False, (("car", "piano"), ("motorbike", "boat"),
        ("piano", "car"))),
    ("married", "I am {0}.", "I am {1}.", "contradicts", False, (("married", "single"), ("employed", "unemployed"),
        ("vegan", "an omnivore"))),
    ("divorced", "I am married.", "I got divorced {0}.", "contradicts", True, (("last year",), ("in March",))),
    # -------------------------------------------------- moments
    ("event moved", "My {0} is {3} {1}.", "My {0} has been moved to {2}.", "contradicts",
        True, tuple((*e, w) for e, w in zip(EVENTS, ("at", "on", "on", "at"), strict=True))),
    ("event rescheduled", "I have a {0} {3} {1}.", "The {0} was rescheduled to {2}.", "contradicts",
        True, tuple((*e, w) for e, w in zip(EVENTS, ("at", "on", "on", "at"), strict=True))),
    ("event plain", "The {0} is {3} {1}.", "The {0} is {3} {2}.", "contradicts", False, tuple((*e, w) for e, w in zip(EVENTS, ("at",
        "on", "on", "at"), strict=True))),
    ("event other", "The {0} is {3} {1}.", "The {4} is {3} {2}.", "unrelated",
        False, tuple((*e, w, o) for e, w, o in zip(EVENTS, ("at", "on", "on", "at"),
        ("call with my lawyer", "school concert", "piano lesson", "yoga class"), strict=True))),
    ("event asked", "The {0} is {3} {1}.", "Could the {0} be {3} {2}?", "unrelated",
        False, tuple((*e, w) for e, w in zip(EVENTS, ("at", "on", "on", "at"), strict=True))),
    ("deadline new", "I have a deadline of {1} for the {0}.", "I'm working towards the new {0} deadline of {2}.", "contradicts",
        True, (("kitchen plan", "April 2", "April 9"), ("grant report", "June 30", "July 15"),
        ("poster draft", "October 2", "October 9"))),
    ("deadline pushed", "The deadline for the {0} is {1}.", "The {0} deadline was pushed back to {2}.", "contradicts",
        True, (("kitchen plan", "April 2", "April 9"), ("grant report", "June 30", "July 15"),
        ("poster draft", "October 2", "October 9"))),
    ("deadline other", "The deadline for the {0} is {1}.", "The deadline for the {3} is {2}.", "unrelated", False, (("first sprint",
        "April 1", "April 5", "visa form"), ("grant report", "June 30", "July 15", "tax return"),
        ("poster draft", "October 2", "October 9", "travel claim"))),
    # -------------------------------------------------- numbers
    ("count grown", "My {1} has {2} {0}.", "My {1} now has {3} {0}.", "contradicts", True, COUNTS),
    ("count reached", "There are {2} {0} in the {1}.", "The number of {0} in the {1} has reached {3} {0}.", "contradicts", True, COUNTS),
    ("count other place", "My {1} has {2} {0}.", "Her {1} has {3} {0}.", "unrelated", False, COUNTS),
    ("rate improved", "The {0} of the module is {1}.", "The {0} of the module has recently changed to {2}.", "contradicts", True, RATES),
    ("rate plain", "Our {0} is {1}.", "Our {0} is {2}.", "contradicts", False, RATES),
    ("rate other", "Our {0} is {1}.", "Our {3} is {2}.", "unrelated", False, tuple((*r, o) for r, o in zip(RATES, ("bounce rate",
        "humidity", "battery voltage", "grocery bill"), strict=True))),
    ("age", "I am {0} years old.", "I just turned {1}.", "contradicts", True, (("30", "31"), ("44", "45"))),
    # -------------------------------------------------- never
    ("never, did", "{1}", "I have never {0}.", "contradicts", False, DEEDS),
    ("never, other deed", "{1}", "I have never {2}.", "unrelated",
        False, tuple((*d, o[0]) for d, o in zip(DEEDS, DEEDS[1:] + DEEDS[:1], strict=True))),
    ("never, others did", "{2}", "I have never {0}.", "unrelated",
        False, tuple((*d, o) for d, o in zip(DEEDS, ("My aunt visited Japan last spring.",
        "Rust code is popular with embedded engineers.", "The library holds a writing workshop every Saturday.",
        "Bitwarden is a free password manager.", "Lena ran the Berlin marathon.",
        "Professor Lund supervises twelve students."), strict=True))),
    ("never, wish", "I wish I had {0}.", "I have never {0}.", "unrelated", False, DEEDS[:1] + DEEDS[4:5]),
    # -------------------------------------------------- the same, or more of it
    ("same words apart from case", "{0}", "{1}", "duplicate", False, (("I live in Oslo.", "i live in oslo"),
        ("My sister is a nurse!", "My sister is a nurse"), ("We adopted a puppy.", "we adopted a puppy"))),
    ("more detail", "{0}", "{1}", "refines", False, (
        ("I have a dog.", "I have a small brown dog."), ("Mia plays the violin.", "Mia plays the violin in the city orchestra."),
        ("I work as a nurse.", "I work as a nurse in the emergency ward."),
            ("We went to Greece.", "We went to Greece in June with the children."),
        ("I like hiking.", "I like hiking in the mountains."))),
    ("both true", "{0}", "{1}", "unrelated", False, (
        ("I visited Rome.", "I visited Paris."), ("My brother is tall.", "My brother is a doctor."),
            ("I read a novel yesterday.", "I read a poem today."),
        ("I bought apples.", "I bought milk."), ("Ana plays chess.", "Ana plays tennis."),
            ("My boss is strict.", "My boss is called Helen."),
        ("I speak French.", "I speak Swahili."), ("The kitchen is clean.", "The bathroom is dirty."),
            ("Omar has a daughter.", "Omar has a garden."),
        ("I ran 5 km on Monday.", "I ran 7 km on Friday."), ("I had coffee at eight.", "I had tea at four."),
            ("My mother was born in Chile.", "My father was born in Peru."))),
    # -------------------------------------------------- the same, more loosely said
    ("loose: moved house", "{0}", "{1}", "contradicts", True, (
        ("We're in a flat on Mill Lane in Leeds.", "We moved to Cardiff over the weekend."),
            ("My parents live in Porto.", "My parents have moved to Braga."),
        ("I'm staying in Hamburg, where I have lived for ten years.", "I don't live in Hamburg any more."),
            ("Kenji lives in Osaka with his wife.", "Kenji relocated to Sydney in spring."),
        ("Her office is in Geneva.", "Her office has moved to Basel."),
            ("Our headquarters are in Austin.", "Our headquarters are now in Denver."))),
    ("loose: work", "{0}", "{1}", "contradicts", True, (
        ("I'm a teacher at Hill School.", "I quit teaching and now work as a gardener."),
            ("I work as a barista.", "I now work as a software tester."),
        ("Tariq is employed at Volvo.", "Tariq no longer works at Volvo."), ("I work for a bakery.", "I recently started at a bookshop."),
        ("Lena works at the airport.", "Lena left the airport and joined a shipping company."),
            ("I'm unemployed.", "I just got a job at the post office."))),
    ("loose: tastes", "{0}", "{1}", "contradicts", False, (
        ("I really enjoy spicy food.", "I can't stand spicy food."), ("Jazz is my favourite kind of music.", "I hate jazz music."),
            ("I prefer tea to coffee.", "I prefer coffee to tea."),
        ("I like cold weather.", "I dislike cold weather."), ("My son loves broccoli.", "My son doesn't like broccoli."),
            ("I eat fish.", "I never eat fish."),
        ("I drink alcohol.", "I do not drink alcohol."), ("Our dog is afraid of thunder.", "Our dog isn't afraid of thunder."))),
    ("loose: habits that ended", "{0}", "{1}", "contradicts", True, (
        ("I smoke a pack a day.", "I quit smoking."), ("I play football every Sunday.", "I no longer play football."),
            ("I take the bus to work.", "I don't take the bus to work anymore."),
        ("I have a gym membership.", "I cancelled my gym membership."), ("We have a cat.", "Our cat died in June."),
            ("I use Evernote for my notes.", "I switched from Evernote to Obsidian."),
        ("Nadia is dating Paul.", "Nadia broke up with Paul."), ("I own a red scooter.", "I sold the red scooter."),
            ("I'm learning Polish.", "I gave up learning Polish."),
        ("I go swimming on Mondays.", "I used to go swimming on Mondays."))),
    ("loose: plans moved", "{0}", "{1}", "contradicts", True, (
        ("The wedding is on June 12.", "The wedding has been postponed to September 4."),
            ("My shift starts at 7 am.", "My shift now starts at 9 am."),
        ("We meet every Tuesday for book club.", "Book club has moved to Wednesday."),
            ("The train leaves at 18:05.", "The train has been rescheduled and leaves at 18:40."),
        ("Our exam is on January 20.", "Actually our exam is on January 22."),
            ("The launch is planned for Monday.", "The launch was pushed to Thursday."),
        ("Dinner is at 8.", "Dinner is at 7 instead."),
            ("I have a call with Dr. Ruiz on March 3 at 10 am.", "My call with Dr. Ruiz was moved to March 5."))),
    ("loose: numbers", "{0}", "{1}", "contradicts", True, (
        ("My savings goal is $2,000.", "I raised my savings goal to $3,000."),
            ("The team has 6 developers.", "The team has grown to 9 developers."),
        ("I weigh 82 kg.", "I now weigh 78 kg."), ("My blog has 300 followers.", "My blog just reached 450 followers."),
            ("The ticket costs 40 euros.", "The ticket now costs 55 euros."),
        ("I walk 6,000 steps a day.", "I have increased my daily walk to 9,000 steps a day."),
            ("The draft has 3,100 words.", "The draft now has 3,900 words."),
        ("We have 12 guests coming.", "We now have 15 guests coming."),
            ("My commute takes 50 minutes.", "My commute now takes 25 minutes."),
            ("The battery lasts 6 hours.", "Since the update the battery lasts 9 hours."))),
    ("loose: states", "{0}", "{1}", "contradicts", False, (
        ("The museum is open on Mondays.", "The museum is closed on Mondays."),
            ("The shop on the corner is cheap.", "The shop on the corner is expensive."), ("My flight is early.", "My flight is late."),
        ("The lift is broken.", "The lift is working."), ("Grandpa is healthy.", "Grandpa is ill."),
            ("The test was easy.", "The test was difficult."),
        ("There is milk in the fridge.", "There is no milk in the fridge."),
            ("Somebody answered my letter.", "Nobody answered my letter."), ("I passed the driving test.", "I failed the driving test."),
        ("Ivy remembers the code.", "Ivy forgot the code."), ("Everything is paid.", "Nothing is paid."),
            ("The package has arrived.", "The package hasn't arrived."))),
    ("loose: never", "{0}", "{1}", "contradicts", False, (
        ("We hiked the Alps with my cousin in 2022.", "I've never hiked in the Alps."),
            ("I gave a talk at PyCon last year.", "I have never given a talk at PyCon."),
        ("I took a pottery course in May.", "I've never taken a pottery course."),
            ("I've been collaborating with Nora on the podcast.", "I have never worked with Nora on a podcast."),
        ("I missed the Friday rehearsal.", "I have never missed a rehearsal."),
            ("I broke my arm skiing.", "I've never broken my arm."),
            ("I completed ten chess puzzles today.", "I haven't completed any chess puzzles yet."),
        ("I met the mayor at the fair.", "I've never met the mayor."),
            ("I deployed the app to Heroku on Friday.", "I've never actually deployed this app to Heroku."))),
    ("loose: near misses of never", "{0}", "{1}", "unrelated", False, (
        ("I want to hike the Alps.", "I've never hiked in the Alps."),
            ("I gave a talk at school.", "I have never given a talk at PyCon."),
            ("My cousin took a pottery course.", "I've never taken a pottery course."),
        ("Can you deploy the app to Heroku?", "I've never deployed an app to Heroku."),
            ("The Alps are beautiful in winter.", "I've never hiked in the Alps."), ("I broke my phone.", "I've never broken my arm."),
        ("I'm planning to learn Italian.", "I have never learned Italian."),
            ("If I had met the mayor, I would have told him.", "I've never met the mayor."),
            ("Nora hosts a podcast.", "I have never worked with Nora."))),
    ("loose: other subject", "{0}", "{1}", "unrelated", False, (
        ("The kitchen light is on.", "The bedroom light is off."), ("My mother is allergic to cats.", "I'm not allergic to cats."),
            ("Tom's exam is on Friday.", "Lily's exam is on Monday."), ("My salary is $4,000.", "His salary is $5,000."),
        ("I have a meeting with Carla at 3.", "I have a meeting with Pedro at 4."), ("The red car is new.", "The blue car is old."),
            ("Iris works at a bank.", "Hugo quit his job at a bank."), ("Our landlord is friendly.", "Our neighbour is unfriendly."),
        ("My son is 12 years old.", "My daughter is 15 years old."),
            ("The old phone had 64 GB of storage.", "The laptop has 512 GB of storage."),
            ("I live on the third floor.", "Marta lives on the fifth floor."), ("My dentist is in Leeds.", "My dentist is very kind."))),
    ("loose: other time", "{0}", "{1}", "unrelated", False, (
        ("I work at the harbour.", "I worked at the harbour café as a student."),
            ("I had pasta on Monday.", "I had rice on Tuesday."), ("I slept 5 hours last night.", "I slept 8 hours on Sunday."),
            ("In 2019 I lived in Rome.", "I live in Milan."),
        ("I ran 10 km yesterday.", "I ran 12 km this morning."),
            ("We paid $80 for dinner on Friday.", "We paid $35 for lunch on Saturday."),
            ("Last year I was in Peru.", "This year I was in Chile."), ("I read 3 books in May.", "I read 5 books in June."))),
    ("loose: both true", "{0}", "{1}", "unrelated", False, (
        ("I like dogs.", "I like cats."), ("I speak Dutch.", "I'm learning Korean."), ("We bought a tent.", "We bought a map."),
            ("I have a sister.", "I have a brother."), ("I visited my aunt.", "I visited my uncle."),
            ("My car is red.", "My car is fast."),
        ("I'm reading a book about Rome.", "I'm reading a book about bees."), ("I know how to knit.", "I know how to sail."),
            ("Ada plays the piano.", "Ada plays the drums."), ("I'm not vegetarian.", "I eat a lot of vegetables."),
            ("I don't like horror films.", "I like romantic films."),
        ("I was sick last week.", "I feel great today."),
            ("I cooked dinner for six people.", "I invited eight people to my birthday."),
            ("My neighbour has two dogs.", "My neighbour has two children."))),
    ("loose: asked or supposed", "{0}", "{1}", "unrelated", False, (
        ("I live in Bonn.", "What if I lived in Vienna?"), ("My exam is on Friday.", "Is my exam on Monday?"),
            ("I eat meat.", "I wish I didn't eat meat."), ("I have a job at the zoo.", "Suppose I lost my job at the zoo."),
            ("I like my flat.", "I might not like my flat if it were noisy."),
        ("The meeting is at 3.", "Could we move the meeting to 4?"), ("I own a boat.", "Should I sell my boat?"),
            ("I'm married.", "Imagine I were single."), ("I smoke.", "I want to stop smoking."),
            ("I use Python 3.11.", "I'm thinking of moving to Python 3.12."))),
    ("loose: others' words", "{0}", "{1}", "unrelated", False, (
        ("I live in Bonn.", "According to the form, I live in Cologne."),
            ("I'm a vegetarian.", "My aunt thinks I'm not a vegetarian."),
            ("The shop opens at 9.", "Somebody told me the shop opens at 10."),
            ("I love opera.", "In the novel, the hero hates opera."), ("I have no siblings.", "Ben says he has three siblings."),
        ("I own a bike.", "Mia mentioned she doesn't own a bike."))),
    ("loose: the same", "{0}", "{1}", "duplicate", False, (
        ("My name is Elif.", "I'm called Elif."), ("I'm living in Ghent.", "I live in Ghent."),
            ("She bought a new car.", "She purchased a new car."),
            ("The kids are playing in the garden.", "The children are playing in the garden."),
        ("My favourite colour is grey.", "My favorite color is gray."), ("The film starts at 8 pm.", "The movie begins at 8 PM."),
            ("I'm not able to come on Friday.", "I am not able to come on Friday."),
            ("He finished the report.", "He completed the report."))),
    ("loose: more detail", "{0}", "{1}", "refines", False, (
        ("I bought a bike.", "I bought a blue bike for my commute."),
            ("We are going to Spain.", "We are going to Spain for two weeks in August."),
            ("My sister is a doctor.", "My sister is a doctor at the children's hospital."),
            ("I study biology.", "I study biology at the University of Ghent."),
        ("He fixed the bug.", "He fixed the login bug by adding a check."),
            ("I play the guitar.", "I play the guitar in a small jazz trio."))),
    # -------------------------------------------------- written after the rules, which were not changed for these
    ("later: changes", "{0}", "{1}", "contradicts", True, (
        ("Sofia lives in Athens with her parents.", "Sofia has moved to Lyon for her studies."),
            ("My therapist is called Dr. Okafor.", "My new therapist is called Dr. Lindqvist."),
        ("The choir rehearses on Wednesdays.", "The choir rehearsal has moved to Fridays."),
            ("I eat eggs for breakfast.", "I no longer eat eggs."),
        ("My car insurance costs $600.", "My car insurance now costs $720."),
            ("The office closes at 6 pm.", "The office now closes at 5 pm."),
            ("I work at a hospital in Dublin.", "I left the hospital last month."),
        ("Our cottage has 3 bedrooms.", "After the renovation our cottage now has 4 bedrooms."),
            ("My username is owl42.", "I changed my username to heron7."), ("I play chess online.", "I stopped playing chess online."))),
    ("later: contradictions", "{0}", "{1}", "contradicts", False, (
        ("My grandmother is alive.", "My grandmother is dead."), ("The soup is hot.", "The soup is cold."),
            ("I baked a cake for Leo.", "I've never baked a cake."), ("The window is open.", "The window is not open."),
        ("Hana can swim.", "Hana can't swim."), ("My middle name is Rose.", "My middle name is Claire."),
            ("There are tickets left.", "There are no tickets left."),
            ("I sent the parcel to Greta.", "I have never sent any parcel to Greta."))),
    ("later: near misses", "{0}", "{1}", "unrelated", False, (
        ("The soup is hot.", "The water is cold."), ("My first name is Rose.", "My last name is Claire."),
            ("I sent the parcel to Greta.", "I've never sent a letter to Jonas."), ("Hana can swim.", "Hana can't drive."),
        ("The gym opens at 6.", "The bakery opens at 7."), ("I left my keys at work.", "I work at the town hall."),
            ("Jo bought two lamps.", "Jo bought three chairs."), ("I was born in Turin.", "I live in Parma."),
        ("Yuki moved to Kyoto.", "Aiko lives in Nara."), ("I love my job.", "My brother hates his job."),
            ("My phone is new.", "My shoes are old."), ("The concert was loud.", "The library was quiet."))),
)  # fmt: skip


def pairs() -> list[Pair]:
    """Every combination, in a fixed order, without repeats."""
    made = [
        Pair(older.format(*filling), newer.format(*filling), relation, update, family)
        for family, older, newer, relation, update, fillings in FAMILIES
        for filling in fillings
    ]
    return list(dict.fromkeys(made))
