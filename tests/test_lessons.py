"""Sentences become questions, or none at all: a statement that rules cannot take apart is never asked about in nonsense."""

from __future__ import annotations

import random

import pytest
from benchmarks.invented import SEALED, TUNED
from hypothesis import given
from hypothesis import strategies as st

from memos_core.lessons import HELD_OUT, TAUGHT, Course, course, otherwise, probes, watching
from memos_core.statements import Fact, base, take_apart
from memos_core.statements.questions import backwards, indirect, question

ASKED = """
Marelia Tonn works as a glassblower. | What does Marelia Tonn work as?
The Zorvex telescope was built in 1987. | When was the Zorvex telescope built?
The Fenwick protocol was designed by Hanne Ruud. | Who designed the Fenwick protocol?
The clinic opens at nine. | What time does the clinic open?
The shop on Mill Street opens at ten. | What time does the shop on Mill Street open?
The train leaves at 9:30. | What time does the train leave?
My brother bought a car. | What did my brother buy?
Ana bought a boat. | What did Ana buy?
Ana went to Vienna. | Where did Ana go to?
Rob sold the old mill. | What did Rob sell?
The baker wrote a novel. | What did the baker write?
Ana painted the fence. | What did Ana paint?
Ana moved to Lisbon in 2019. | When did Ana move to Lisbon?
Ana planned the garden. | What did Ana plan?
Ana studied biology. | What did Ana study?
Ana needs a visa. | What does Ana need?
Ana put the key in the drawer. | What did Ana put the key in?
The novel was written by Ana Roth. | Who wrote the novel?
The house is owned by Ben Hale. | Who owns the house?
The nurses work at night. | When do the nurses work?
Ana and Ben live in Porto. | Where do Ana and Ben live?
Cats drink milk. | What do cats drink?
Children need sleep. | What do children need?
My parents have two dogs. | What do my parents have?
The lamps are behind the sofa. | Where are the lamps?
Patient 12 prefers slot 3. | What does Patient 12 prefer?
Room 4 is in Leeds. | Where is Room 4?
Ana's dog is called Rufus. | What is Ana's dog called?
Ana Roth's older brother lives in Turin. | Where does Ana Roth's older brother live?
Milo's birthday is in October. | When is Milo's birthday?
Paula's train leaves from platform nine. | What does Paula's train leave from?
Rob's favourite colour is green. | What is Rob's favourite colour?
Ana has two cats. | What does Ana have?
Ana had a bakery. | What did Ana have?
Porto is the home of Ana. | What is Porto the home of?
Madrid is the capital of Spain. | What is Madrid the capital of?
The capital of Spain is Madrid. | What is the capital of Spain?
The password of the guest network is sunflower. | What is the password of the guest network?
Our dentist is Doctor Lindqvist. | Who is our dentist?
Ana is married to Ben. | Who is Ana married to?
Ana is the mother of Ben. | Who is Ana the mother of?
Ana is learning Spanish. | What is Ana learning?
Ana is 34 years old. | How old is Ana?
Ana is allergic to nuts. | What is Ana allergic to?
Ana is interested in Physics. | What is Ana interested in?
Ana grew up in Porto. | Where did Ana grow up?
Ana comes from Porto. | Where does Ana come from?
Ana was born in 1980. | When was Ana born?
Ana met Ben in Porto. | Where did Ana meet Ben?
Dana taught Ben chess. | What did Dana teach Ben?
Dana collects old maps of Lisbon. | What does Dana collect?
Ana gave Ben a book. | What did Ana give Ben?
Ana lives in Porto, Portugal. | Where does Ana live?
Ana Maria Costa plays the flute. | What does Ana Maria Costa play?
Ana de la Cruz teaches chemistry. | What does Ana de la Cruz teach?
Jan van der Berg speaks Dutch. | What does Jan van der Berg speak?
Dr. Roth lives in Porto. | Where does Dr. Roth live?
The meeting was moved to Thursday. | When was the meeting moved to?
The old mill was sold to a painter. | Who was the old mill sold to?
The project plans cover three years. | What do the project plans cover?
The recipe needs three eggs. | What does the recipe need?
Ana sculpts owls. | What does Ana sculpt?
I live in Porto. | Where does the user live?
I am a nurse. | What is the user?
The meeting is at 10 am. | What time is the meeting?
The office hours are from 9 to 5. | When are the office hours?
The meeting takes place in room 4. | Where does the meeting take place?
The children play football in the park. | Where do the children play football?
Both brothers live in Kyiv. | Where do both brothers live?
The ticket cost 20 euros. | What did the ticket cost?
The new CEO of Acme is Dana Reyes. | Who is the new CEO of Acme?
Ana is Ben's sister. | Who is Ana?
Ana named her dog Rufus. | What did Ana name her dog?
Ana called the doctor. | Who did Ana call?
I am from Brazil. | Where is the user from?
I'm allergic to nuts. | What is the user allergic to?
I bought a boat. | What did the user buy?
I watch birds. | What does the user watch?
"""
UNREAD = """
I think that Ana lives in Porto.
I think Ana lives in Porto.
Does Ana live here?
Where does Ana live
Ana doesn't eat meat.
Ana is not a nurse.
Ana has never seen snow.
Ana has no cats.
I don't like tea.
Hello there!
Hello Ana, nice to meet you.
Thanks for the tickets.
Ana, who lives in Porto, plays chess.
The man who lives in Porto plays chess.
Ana likes tea, coffee and milk.
Ana likes tea and cake.
Ana lives in Porto and works as a nurse.
Ana lives in Porto. Ben lives in Graz.
Ana was late because the train was slow.
If Ana comes we eat.
Ana can swim.
Ana has been a nurse since 2010.
Ana is learning to play the guitar.
Ana is going to buy a car.
Ben runs every morning.
The weather is nice today.
The concert was cancelled.
Ana will move to Porto.
Ana wants to buy a car.
Ana has bought a car.
Ana lives here.
Ana works hard.
Ana always drinks tea.
I always drink tea.
She lives in Porto.
There is a bridge in Porto.
Every day Ana drinks tea.
In 1987 Ana moved to Porto.
Yesterday Ana bought a car.
Remember Ana likes tea.
Buy some milk.
The old painted door.
The nurses of Porto.
What a lovely day!
"""
READ = [tuple(part.strip() for part in line.split("|")) for line in ASKED.strip().splitlines()]
INVENTED = [(f"{family}{place}", fact.statement, None) for family, facts in enumerate((TUNED, SEALED)) for place, fact in enumerate(facts)]


def taken(text: str) -> Fact:
    fact = take_apart("id", text)
    assert fact is not None, text
    return fact


@pytest.mark.parametrize(("text", "asked"), READ)
def test_a_statement_becomes_a_question(text: str, asked: str) -> None:
    assert question(taken(text)) == asked


@pytest.mark.parametrize("text", UNREAD.strip().splitlines())
def test_what_is_no_plain_statement_is_not_taken_apart(text: str) -> None:
    assert take_apart("id", text) is None


@pytest.mark.parametrize("text", [text for text, _ in READ if not text.startswith("I")] + [text for _, text, _ in INVENTED])
def test_what_is_taken_apart_reassembles(text: str) -> None:
    fact = taken(text)
    assert f"{fact.says} {fact.answer}" == text.removesuffix(".")


@pytest.mark.parametrize("text", [text for text, _ in READ])
def test_held_out_phrasings_are_never_taught(text: str) -> None:
    fact = taken(text)
    taught = {phrase(fact) for phrase in TAUGHT} | {*otherwise(fact), backwards(fact)}
    held_out = {phrase(fact) for phrase in HELD_OUT}
    assert len(held_out) == len(HELD_OUT) and not taught & held_out and watching(fact) not in taught | held_out


CLAUSES = """
The clinic opens at nine. | what time the clinic opens | What opens at nine?
My brother bought a car. | what my brother bought | Who bought a car?
The novel was written by Ana Roth. | who wrote the novel | What was written by Ana Roth?
The nurses work at night. | when the nurses work | Who works at night?
The lamps are behind the sofa. | where the lamps are | What is behind the sofa?
Ana's dog is called Rufus. | what Ana's dog is called | What is called Rufus?
Porto is the home of Ana. | what Porto is the home of | What is the home of Ana?
Room 4 is in Leeds. | where Room 4 is | What is in Leeds?
Patient 12 prefers slot 3. | what Patient 12 prefers | Who prefers slot 3?
My parents have two dogs. | what my parents have | Who has two dogs?
I live in Porto. | where the user lives | Who lives in Porto?
"""


@pytest.mark.parametrize(("text", "clause", "reverse"), [tuple(map(str.strip, line.split("|"))) for line in CLAUSES.strip().splitlines()])
def test_a_statement_becomes_a_clause_and_a_question_for_its_subject(text: str, clause: str, reverse: str) -> None:
    fact = taken(text)
    assert (indirect(fact), backwards(fact)) == (clause, reverse)


def test_the_user_is_called_by_name_where_it_is_known() -> None:
    fact = take_apart("id", "I sold my car.", "Ana")
    assert fact is not None and question(fact) == "What did Ana sell?" and fact.answer == "their car"


BASES = """works work|studies study|teaches teach|goes go|has have|lives live|lies lie|passes pass|uses use|misses miss|sculpts sculpt
painted paint|moved move|planned plan|carried carry|visited visit|agreed agree|need need|put put|bought buy|wrote write|took take|met meet
went go|ran run|had have|created create|stopped stop|travelled travel|felt feel|sold sell|became become|frobnicate frobnicate"""


@pytest.mark.parametrize("pair", BASES.replace("\n", "|").split("|"))
def test_a_form_leads_to_its_base(pair: str) -> None:
    form, expected = pair.split()
    assert base(form) == expected


FEW = "Ana lives in Porto.|The bridge was built in 1987.|Ana works as a nurse.|Ana is an engineer.|Ana plays the oboe.|Ana likes tea.|" + (
    "Ana has two cats.|The shop is closed on Mondays.|Ana sells lamps.|The bridge was designed by Hanne Ruud.|Ana lives in Lisbon."
)


@pytest.mark.parametrize("count", [1, 2, 3, 11])
def test_a_probe_has_three_wrong_answers(count: int) -> None:
    for start in range(11):
        facts = [taken(text) for text in (FEW.split("|") * 2)[start : start + count]]
        found = probes(facts)
        assert len(found) == count * len(HELD_OUT) and found == probes(facts)
        for probe in found:
            assert len({each.casefold() for each in (probe.expected, *probe.others)}) == 4 and len(probe.others) == 3


@pytest.mark.parametrize("text", FEW.split("|"))
def test_answers_that_are_made_up_are_of_the_same_kind(text: str) -> None:
    probe = probes([taken(text)])[0]
    for other in probe.others:
        assert other[0].isupper() == probe.expected[0].isupper() and other[0].isdigit() == probe.expected[0].isdigit()
        assert probe.expected.split()[0] not in ("a", "an", "the") or other.split()[0] == probe.expected.split()[0]


def test_facts_that_say_the_same_are_no_wrong_answers_twice() -> None:
    facts = [
        taken(f"{name} lives in {place}.")
        for name, place in zip("Ana Ben Eva Ivo Lea".split(), "Porto Graz Graz graz Porto".split(), strict=True)
    ]
    for probe in probes(facts):
        assert len({each.casefold() for each in (probe.expected, *probe.others)}) == 4


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_a_course_is_the_same_for_a_seed(seed: int) -> None:
    random.seed(seed)
    assert course(INVENTED, seed) == course(INVENTED, seed)
    assert course(INVENTED, seed).keep != course(INVENTED, seed + 1).keep


def spoken(made: Course) -> list[str]:
    return [f"{lesson.asked[0][1]} {lesson.reply}".casefold() for lesson in made.keep]


@pytest.mark.parametrize("seed", range(5))
def test_kept_lessons_never_name_a_taught_subject(seed: int) -> None:
    made = course(INVENTED, seed)
    assert len(made.facts) == len(INVENTED) and made.unread == ()
    assert not [(fact.subject, text) for fact in made.facts for text in spoken(made) if fact.subject.casefold() in text]


def test_what_cannot_be_taken_apart_is_taught_but_never_asked() -> None:
    made = course([("one", "Hello there!", None), ("two", "Ana plays chess.", None)])
    assert made.unread == ("one",) and {probe.fact for probe in made.probes} == {"two"}
    assert [lesson.reply for lesson in made.teach if lesson.fact == "one"] == ["Hello there!"]


BAD = [
    "",
    " ",
    ".",
    "!!!",
    "?",
    "...",
    "I",
    "I am",
    "the",
    "123 456 789.",
    "— — —",
    "\x00\n\t",
    "''' ''' '''",
    ", , ,",
    "I's is is",
    "é" * 10_000,
]


@pytest.mark.parametrize("text", [*BAD, "Ana " * 50_000, "is " * 29, "a" * 1_000_000, "Ana likes " + "very " * 100_000 + "old tea."])
def test_bad_input_never_raises(text: str) -> None:
    assert take_apart("id", text) is None
    assert take_apart("id", text, "Ana") is None


words = "I Ana The the Porto is was has lives works bought put by in to at 1987 nine nurse's and , old not who been built called".split()


@given(st.one_of(st.text(max_size=80), st.lists(st.sampled_from(words), max_size=12).map(" ".join)))
def test_any_text_is_none_or_can_be_asked(text: str) -> None:
    fact = take_apart("id", text)
    if fact is not None:
        assert fact.subject and fact.verb and fact.answer
        assert question(fact).endswith("?") and indirect(fact) and backwards(fact).endswith("?") and otherwise(fact) is not None
        assert all(len(set(probe.others)) == 3 for probe in probes([fact]))
