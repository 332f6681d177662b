"""Duplicates: what is the same in another notation merges, what differs in one number, name, date, negation or role does not."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memos_core.duplicate import Said, bag_key, content_hash, repeats, same
from memos_core.duplicate.fingerprint import BYTES, TEXT, distances
from memos_core.duplicate.normal import normal_form
from memos_core.index.coarse import Near

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)

EXACT = """
I like green tea. | i like green tea
I LIKE GREEN TEA!!! | I like, green tea...
It's 10 % cheaper | its 10% cheaper.
It is 10 percent cheaper | It is ten per cent cheaper
She earns 1,000 dollars | She earns $1000
The house costs $2.5 million | the house costs 2500000 dollars
We sold 5k tickets | We sold 5,000 tickets
The flight leaves at 3 pm | The flight leaves at 15:00
The flight leaves at 3:30 p.m. | the flight leaves at 3.30pm
Dinner is at 7 P.M. | dinner is at 7:00 pm
Lunch at noon | Lunch at 12 pm
School starts at 8 o'clock | School starts at 8:00
Ana was born on May 7, 1990 | Ana was born on 7 May 1990
Ana was born on the 7th of May 1990 | Ana was born on 1990-05-07
We met on March 3rd | We met on 3 March
He has twenty-five cousins | He has 25 cousins
There were two hundred and five guests | There were 205 guests
She came in third | She came in 3rd
I don't eat meat | I do not eat meat
I cannot swim | I can't swim
I am sure they will come | Im sure they'll come
It is 19:05 and we are late | its 7:05 pm and we're late
I’m from Łódź | I'm from łódź
Ｆｕｌｌ width | full width
My straße is long | My STRASSE is long
It weighs 5kg | it weighs 5 kg
“Dune” is my favourite book | "Dune" is my favourite book
"""

NEAR = """
On Monday I called Ben | I called Ben on Monday
Last week I met Ana at the park. | I met Ana at the park last week.
After I ate, I slept. | I slept after I ate.
We stay at home if it rains. | If it rains, we stay at home!
Because the train was late, Priya missed the concert. | Priya missed the concert because the train was late.
I flew from Paris to Rome | I flew to Rome from Paris
I talked to Ana about Ben. | I talked about Ben to Ana.
I love hiking and my kids love painting | My kids love painting and I love hiking
I like tea, Ben likes coffee. | Ben likes coffee, I like tea.
Ana lives in Rome. Ben lives in Paris. | Ben lives in Paris. Ana lives in Rome.
Got the job! I start in June. Can't wait to tell my parents! | i start in june cant wait to tell my parents got the job
How was your trip to Rome? | how was your trip to rome
Is Maya coming to the party? | is maya coming to the party
What a week! Did you finish the quilt? | did you finish the quilt what a week
The well-known author spoke for 2 hours | the wellknown author spoke for two hours
I bought the red car | I bought a red car
Oh, I really like that red car | I like that red car
Unfortunately our cat Miso ran away | Our cat Miso ran away, unfortunately
My sister moved to Oslo in 2019 | In 2019 my sister moved to Oslo
Yesterday the plumber fixed two pipes | The plumber fixed 2 pipes yesterday.
Great game last night 😀 | Great game last night
"""

DIFFERENT = """
I like tea | I don't like tea
I like tea. | I like tea?
You finished the report. | You finished the report?
Meeting at 3 | Meeting at 4
Meeting at 3 pm | Meeting at 3 am
Meeting at 3 pm | Meeting at 3:30 pm
We met on Monday | We met on Tuesday
We met on 3 March | We met on 3 May
We met in May 2023 | We met in May 2024
It costs 3.5 euros | It costs 35 euros
It costs 5 euros | It costs 5 dollars
It is -5 degrees outside | It is 5 degrees outside
The discount is 10% | The discount is 10
Ana called Ben | Ben called Ana
Ana, Ben called. | Ben called Ana.
Ana called Ben on Monday | On Monday Ben called Ana
I called Ana on Monday and Ben on Friday | I called Ana on Friday and Ben on Monday
Ana lives in Rome. Ben lives in Paris. | Ana lives in Paris. Ben lives in Rome.
I was happy in Rome and sad in Paris | I was happy in Paris and sad in Rome
I met Ana. Ben came on Monday. | On Monday I met Ana. Ben came.
I flew from Paris to Rome | I flew from Rome to Paris
I moved here before I met Ben | I met Ben before I moved here
It rained so I stayed | I stayed so it rained
If Ana calls, Ben leaves. | If Ben leaves, Ana calls.
Tea is better than coffee | Coffee is better than tea
I prefer tea to coffee | I prefer coffee to tea
I like tea, not coffee | I like coffee, not tea
I only like tea | Only I like tea
The man with the dog saw Ana | The man saw Ana with the dog
Do you like tea? No. Coffee? Yes. | Do you like tea? Yes. Coffee? No.
I went there with my sister | I went there without my sister
Ana is taller than Ben | Ana is shorter than Ben
I love spicy food | I hate spicy food
The window is open | The window is closed
I went hiking | I went biking
I always lock the door | I never lock the door
I can come tonight | I can't come tonight
I will call you | You will call me
I bought a red car | I bought a blue car
I have two cats | I have two dogs
My brother is a nurse | My sister is a nurse
I play tennis | I played tennis
He had read it | He would read it
Turn left at the bank | Turn right at the bank
The password is abc12 | The password is abc13
I write C | I write C++
I write C++ | I write C#
Dinner on Sunday 👍 | Dinner on Sunday 👎
Version 1.2.3 is out | Version 1.3.2 is out
Prices went from 10 to 20 | Prices went from 20 to 10
We won 3-2 | We won 2-3
Call me at 555-1234 | Call me at 555-1243
मैं चाय पीती हूँ | मैं चाय पीता हूँ
"""


def pairs(text: str) -> list[tuple[str, str]]:
    return [(one, other) for one, _, other in (line.partition(" | ") for line in text.strip().splitlines())]


@pytest.mark.parametrize(("one", "other"), pairs(EXACT))
def test_another_notation_is_the_same_text(one: str, other: str) -> None:
    assert normal_form(one) == normal_form(other)
    assert content_hash(one) == content_hash(other)
    assert same(one, other).confidence == 1.0


@pytest.mark.parametrize(("one", "other"), pairs(NEAR))
def test_the_same_words_in_another_order_are_near_duplicates(one: str, other: str) -> None:
    assert normal_form(one) != normal_form(other)
    verdict = same(one, other, 0.9)
    assert verdict.same, verdict
    assert same(other, one, 0.9) == verdict
    assert bag_key(one) == bag_key(other)


@pytest.mark.parametrize(("one", "other"), pairs(DIFFERENT))
def test_what_says_something_else_is_kept_apart(one: str, other: str) -> None:
    verdict = same(one, other, 0.99)
    assert not verdict.same, verdict
    assert not same(other, one, 0.99).same
    assert normal_form(one) != normal_form(other)


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ("I have 2 cats", "I have three cats", "numbers differ: 2 and 3"),
        ("We met on Monday", "We met on Friday", "dates differ: monday and friday"),
        ("I like tea", "I do not like tea", "negation differs: nothing and do not"),
        ("Yesterday Ana called", "Yesterday Ben called", "names differ: ana and ben"),
        ("I bought a red car", "I bought a blue car", "words differ: red and blue"),
        ("You like tea", "You like tea?", "one asks"),
        ("Ana called Ben", "Ben called Ana", "an order that may say something else"),
        ("Ana called Ben", "Ana called Ben", "the same words"),
    ],
)
def test_the_verdict_says_why(one: str, other: str, why: str) -> None:
    assert why in same(one, other).why


def test_lines_are_clauses_and_hyphens_join() -> None:
    assert same("I like tea\nBen likes coffee", "Ben likes coffee\nI like tea", 0.9).same
    assert same("You know?\nI slept well. Anything new with Ana?", "You know\nI slept well Anything new with Ana", 0.9).same
    assert same("Any tips for a first-timer baking lava cake?", "any tips for a firsttimer baking lava cake?", 0.9).same


def test_vectors_far_apart_block_what_is_not_literally_the_same() -> None:
    assert not same("On Monday I called Ben", "I called Ben on Monday", 0.2).same
    assert not same("On Monday I called Ben", "I called Ben on Monday", float("nan")).same
    assert same("I called Ben on Monday", "i called ben on monday!", 0.2).same


# ---------------------------------------------------------------------- laws
PARTS = "a an i s t d m ll im n dont 1 2 20 1,000 5k hundred two twenty five and thousand may march 7 7th 2023 3pm 12 pm a.m. 10:30 c++ c# per cent first noon"
pieces = st.sampled_from([*PARTS.split(), *", . ? ! - ' : / ( + # $ % € 👍 ❤️ é न ी ß ﬁ \n".split(" ")])
texts = st.one_of(st.text(max_size=40), st.lists(pieces, max_size=12).map(" ".join), st.lists(pieces, max_size=10).map("".join))


@settings(max_examples=600, deadline=None)
@given(texts)
@example("a s s")
@example("don t")
@example("7 may 7 may")
@example("?")
@example("")
def test_a_normal_form_is_its_own_normal_form(text: str) -> None:
    assert normal_form(normal_form(text)) == normal_form(text)


@settings(max_examples=300, deadline=None)
@given(texts, texts, st.floats())
def test_the_verdict_is_symmetric_and_never_raises(one: str, other: str, cosine: float) -> None:
    verdict, back = same(one, other, cosine), same(other, one, cosine)
    assert (verdict.same, verdict.confidence) == (back.same, back.confidence)
    assert 0 <= verdict.confidence <= 1
    assert repeats(Said(one), Said(other), cosine).same == repeats(Said(other), Said(one), cosine).same


@settings(max_examples=300, deadline=None)
@given(texts)
def test_a_text_is_the_same_as_itself_in_any_case_and_spacing(text: str) -> None:
    assert same(text, text).same
    assert same(text, f"  {text.replace(' ', '   ')} ").same
    if text.isascii():
        assert normal_form(text.upper()) == normal_form(text)


@settings(max_examples=300, deadline=None)
@given(st.lists(pieces, max_size=8), st.randoms(use_true_random=False))
def test_whatever_is_the_same_has_the_same_bag_key(parts: list[str], rng: random.Random) -> None:
    one = " ".join(parts)
    shuffled = parts.copy()
    rng.shuffle(shuffled)
    other = " ".join(shuffled)
    if same(one, other).same:
        assert bag_key(one) == bag_key(other)


def test_odd_texts_do_no_harm() -> None:
    odd = ["", " ", "\ud800", "\x00", "....", "👍", "👎", "?" * 1000, "\n\n", "१२३", "١٢٣", "½", "Ⅷ", "a" * 100_000]
    for one in odd:
        for other in odd:
            assert same(one, other).same == (normal_form(one) == normal_form(other))
        assert len(bag_key(one)) == 16 and len(content_hash(one)) == 32
    assert normal_form("👍") != normal_form("👎") and normal_form("...") != normal_form("?!")


def test_long_texts_are_compared_in_reasonable_time() -> None:
    rng = random.Random(1)
    text = [rng.choice("in on the park city ana ben saw called and with a of tree house red".split()) for _ in range(900)]
    start = time.perf_counter()
    assert not same(" ".join(text), " ".join([text[450], *text[1:450], text[0], *text[451:]])).same
    assert same(" ".join(text) * 20, (" ".join(text) * 20).upper()).same
    assert time.perf_counter() - start < 3


def test_the_key_is_secret_when_asked() -> None:
    assert bag_key("I like tea", b"one") == bag_key("I LIKE tea!", b"one")
    assert len({bag_key("I like tea"), bag_key("I like tea", b"one"), bag_key("I like tea", b"two")}) == 3


# ---------------------------------------------------------------------- messages
def said(text: str, speaker: str | None = "Ana", after: timedelta = timedelta()) -> Said:
    return Said(text, speaker, NOON + after)


@pytest.mark.parametrize(
    "text",
    ["Yes.", "Thanks!", "lol", "Good morning", "Thanks, that sounds great!", "Take care, bye!", "Hey! How are you today?", "No problem 👍"],
)
@pytest.mark.parametrize("after", [timedelta(), timedelta(minutes=1), timedelta(days=3)])
def test_small_talk_said_again_keeps_its_place(text: str, after: timedelta) -> None:
    assert not repeats(said(text), said(text, after=after)).same


def test_a_fact_said_again_is_one_memory() -> None:
    assert repeats(said("I like green tea."), said("i like green tea", after=timedelta(days=30))).same
    assert repeats(said("Ben is allergic to 2 antibiotics"), said("Ben is allergic to two antibiotics!", after=timedelta(days=300))).same
    assert repeats(Said("I like green tea."), Said("I LIKE GREEN TEA")).same


def test_what_hangs_on_its_moment_is_another_thing_later() -> None:
    day = timedelta(days=2)
    assert repeats(said("I went swimming today"), said("i went swimming today!")).same
    assert not repeats(said("I went swimming today"), said("I went swimming today", after=day)).same
    assert not repeats(
        said("I ran 5 km in the park with Ben this morning"), said("I ran 5 km in the park with Ben this morning", after=day)
    ).same
    copied = "Today I finally finished the marathon in Oslo with my cousin Priya from Delhi, despite the heavy rain"
    assert repeats(said(copied), said(copied.lower(), after=day)).same


@pytest.mark.parametrize(
    "text", ["She painted that picture", "Can you explain that again?", "Let me know what you think", "Write it shorter please"]
)
def test_what_hangs_on_its_context_is_another_thing_elsewhere(text: str) -> None:
    assert not repeats(said(text), said(text, after=timedelta(minutes=5))).same
    assert same(text, text).same


def test_different_people_say_different_things() -> None:
    assert not repeats(said("I like green tea."), said("I like green tea.", "Ben")).same
    assert not repeats(said("I like green tea."), said("I like green tea.", None)).same
    assert repeats(said("I like green tea."), said("I like green tea", "ana")).same


# ---------------------------------------------------------------------- candidates
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=80), st.integers(0, 192), st.integers(1, 20), st.integers(0, 2**32))
def test_candidates_find_what_a_full_scan_finds(steps: list[tuple[bool, int]], within: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    candidates, held = Near(), dict[int, np.ndarray]()
    base = rng.integers(0, 256, BYTES, dtype=np.uint8)
    for adding, row in steps:
        if adding and row not in held:
            held[row] = base ^ (rng.integers(0, 256, BYTES, dtype=np.uint8) & rng.integers(0, 256, BYTES, dtype=np.uint8))
            candidates.add(row, held[row])
        elif not adding:
            candidates.remove(row)
            held.pop(row, None)
    assert len(candidates) == len(held)
    apart = {row: int(distances(base[TEXT], bits[None, TEXT])[0]) for row, bits in held.items()}
    near = candidates.near(base, within, count)
    expected = sorted((d, row) for row, d in apart.items() if d <= within)
    assert [apart[row] for row in near] == [d for d, _ in expected[:count]]
    assert len(expected) > count or near == [row for _, row in expected]


def test_candidates_grow_and_shrink_to_any_size() -> None:
    rng = np.random.default_rng(0)
    candidates = Near()
    bits = rng.integers(0, 256, (20_000, BYTES), dtype=np.uint8)
    for row, one in enumerate(bits):
        candidates.add(row, one)
    for row in range(0, 20_000, 100):
        candidates.remove(row)
    assert len(candidates) == 19_800
    assert all((candidates.near(bits[row]) == [row]) == (row % 100 != 0) for row in rng.integers(0, 20_000, 200).tolist())
