"""What the sentences of a message are, by rules: standing instructions and preferences, events, facts; questions, requests and chat are none. Pure.

Ours, from the grammar of English: an order is standing when a word says so (always, never, from now on, whenever I ...), when it is about the answers in
general, or when it forbids without pointing at one thing; a preference is the speaker's own, in the present, and not about what was just shown.
Source of the idea that such sentences steer later answers: MemOS §4.1 (semantic types of plaintext memory).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from memos_core.analyse import words
from memos_core.cube import SemanticType
from memos_core.parse.sentences import sentences


@dataclass(frozen=True, slots=True)
class StandingInstruction:
    """What a user wants kept to from now on.

    text: the sentence, verbatim. kind: an instruction to the assistant, or a preference or need of the user's. topics: words that it applies to,
    with the domains they belong to; () when it applies always.
    """

    text: str
    kind: Literal["instruction", "preference"]
    topics: tuple[str, ...] = ()

    @property
    def always(self) -> bool:
        return not self.topics

    def applies(self, text: str) -> bool:
        """Whether it bears on a request: always, or by a word of the same stem, or a word of the same domain ("pork" and "what shall I cook")."""
        return self.always or not set(words(" ".join(self.topics))).isdisjoint(words(" ".join((text, *_domains(text)))))


@dataclass(frozen=True, slots=True)
class Found:
    """A sentence that the rules recognised: text[start:end] of the message, and what it is."""

    text: str
    start: int
    end: int
    kind: Literal[SemanticType.FACT, SemanticType.PREFERENCE, SemanticType.EVENT]
    standing: StandingInstruction | None = None


def rules(text: str) -> tuple[Found, ...]:
    """The sentences of a message that are preferences or standing instructions, events, or facts."""
    found = []
    for start, end in sentences(text):
        wish = _wish(text[start:end])
        kind = SemanticType.PREFERENCE if wish else _kind(_plain(text[start:end][:LONGEST_WISH]))
        if kind is not None:
            found.append(Found(text[start:end], start, end, kind, wish))
    return tuple(found)


def standing(text: str) -> StandingInstruction | None:
    """The first sentence of the text that is a standing instruction or a lasting preference, or None."""
    return next((wish for start, end in sentences(text) if (wish := _wish(text[start:end]))), None)


def _wish(sentence: str) -> StandingInstruction | None:
    plain = _plain(sentence[:LONGEST_WISH])
    if (topics := _instruction(plain)) is not None:
        return StandingInstruction(sentence, "instruction", topics)
    if (topics := _preference(plain)) is not None:
        return StandingInstruction(sentence, "preference", topics)
    return None


def _plain(sentence: str) -> str:
    """One line with straight apostrophes, without politeness and connectives in front."""
    return _LEAD.sub("", " ".join(sentence.replace("’", "'").replace("‘", "'").split()))


# ------------------------------------------------------------------ words
def _one_of(*phrases: str) -> str:
    """A pattern for any of the phrases; each argument is a list with commas between."""
    return "(?:" + "|".join(phrase.strip() for listed in phrases for phrase in listed.split(",")) + ")"


def _rule(*parts: str) -> re.Pattern[str]:
    return re.compile("".join(parts), re.IGNORECASE)


LONGEST_WISH = 1_000
"""Characters of a sentence that are read for a wish and its kind: people say such things shortly, and patterns over more would take time."""
_CLAUSE = _rule(
    r"[,;:—–]\s+|\s+-\s+|\s+", _one_of("and, but, so, because, since, as, although, though, while, given that, considering"), r"\s+"
)
_LEAD = _rule(
    r"^(?:",
    _one_of(
        "please, pls, kindly, hey, hi, hello, ok, okay, so, also, and, but, oh, well",
        "right, just, btw, by the way, fyi, yes, thanks, thank you, actually",
        "honestly, personally, to be honest, in general, generally, overall, again, one more thing",
        "quick note, note, important, reminder, ps, since, because",
        "as(?= i\b), given that, considering",
    ),
    r"(?:[,:!.]|\b)\s*|(?:no|sure),\s*)+(?=\S)",
)
_TIMES = _one_of("whenever, every ?time, each time, any ?time")
_FROM_NOW = _one_of(
    "from now on(?:wards?)?, from here on(?: out)?, going forward, (?<!keep )moving forward, in (?:the )?future, for future reference, henceforth",
    "as a (?:general )?rule, by default, at all times",
)
_UNLESS = r"(?:unless|until) (?:i|we) (?:say|tell|ask|specify|state|mention|request)"
_ACT = _one_of(  # what an assistant is told to do, with its answers or for the user
    "double-?check, check, answer, respond, reply, use, give, call, address, refer",
    "format, include, show, tell, write, keep, make, ensure, explain, provide",
    "mention, list, cite, quote, speak, talk, assume, treat, remind, ask, add, put",
    "start, begin, end, finish, convert, translate, spell, prefer, favou?r",
    "prioriti[sz]e, stick, limit, offer, suggest, recommend, propose, skip, leave",
    "omit, exclude, book, send, let(?! me know), consider, summari[sz]e, order, split, break",
    "highlight, avoid, wait, confirm, warn, notify, alert, focus, go, try, be, take",
    "do, say, bring, return, output, print, present, structure, describe, state",
    "note, remember, sign, round, specify, comment, document, test, verify, plan, choose",
    "pick, point, repeat, share, shorten, simplify, rephrase, greet, type",
    "label, number, name, organi[sz]e, schedule, set, walk, teach, default, opt, phrase, discuss, review, update, compare, draft, reference, credit",
)
_TALK = _one_of(  # when you or I do this, a standing order comes into force
    "ask, mention, say, talk, speak, bring up, want, request, write, share, paste, discuss",
    "inquire, refer, quote, cite, explain, answer, respond, reply, suggest",
    "recommend, give, list, show, provide, describe, propose, use, make, book, plan, present, summari[sz]e, create, generate, need help",
)
_ANSWER = _one_of("answers, replies, responses, explanations, messages, summaries, suggestions, recommendations, examples, outputs")

# ------------------------------------------------------------------ instructions
_WHEN = (
    rf"(?:{_TIMES} [^,]+?|when \w+ing\b[^,]*|(?:when|if) (?:i|we|you) (?:\w+ly |ever )?{_TALK}\b[^,]*"
    r"|for (?:all|any|every|each|future) [^,]+|for my \w+s|for anything [^,]+)"
)
_WHEN_IN_FRONT = _rule(rf"^(?P<when>{_WHEN}),\s*(?P<rest>.+)$")
_WHEN_BEHIND = _rule(rf"^(?P<rest>.+?),? (?P<when>{_WHEN})[.!]*$")
_WHEN_ANSWERING = _rule(r" you (?:answer|respond|reply|write|speak|talk)\b(?! (?:about|on|to (?!me\b))\b)")
_FRONT = _rule(rf"^(?:{_FROM_NOW}(?:,\s*|\s+)|{_UNLESS}\b[^,]*,\s*)(?P<rest>.+)$")
_MARKER = _rule(
    rf"\b(?:always(?=[.!]*$)|ever again|don't ever|do not ever|{_FROM_NOW}|{_TIMES}|{_UNLESS}|make it a habit"
    r"|(?:every|any)thing you (?:write|say|send|tell|give)"
    r"|(?:for|in) (?:all|any|every|each) (?:of )?(?:my|your|future)"
    r"|(?:every|each|all|any) (?:single )?(?:of )?(?:your )?(?:messages?|answers?|repl(?:y|ies)|responses?|summar(?:y|ies)|explanations?|conversations?))\b"
)
_ASKED = _rule(r"^(?:could|can|would|will) you (?:(?:please|kindly|also|just) )*(?P<order>.+)$")
_TOLD = _rule(
    r"^(?:you (?:should|must|(?:can|may)(?= (?:call|address|refer to) me)|need to|have to|are to|will|shall)",
    r"|i(?:'d| would)? (?:also |really )?(?:want|need|like|love|prefer|expect|ask)(?: for)? you to",
    r"|i(?:'d| would) (?:prefer|like|love|appreciate)(?: it)? if you(?: would| could)?",
    r"|it(?:'s| is) (?:very |really )?(?:important|essential|crucial|vital) (?:that you|for you to)",
    r"|let's|(?:make|be) sure (?:that )?(?:you|to)|remember to|don't forget to) (?P<order>.+)$",
)
_WANT_YOURS = _rule(
    rf"^i(?:'d| would)? (?:(?:want|need|like|prefer|love)(?: it)? (?:if )?(?:(?:all|every|each) )?(?:of )?your {_ANSWER}\b",
    r"|(?:like|prefer|love|appreciate) it if you (?:kept|used|gave|avoided|stopped|didn't \w+) (?:things|your|more|using)\b)",
)
_BEAR_IN_MIND = _rule(
    r"^(?:keep in mind|bear in mind|remember|note|be aware|don't forget|take into account) that (?P<rest>(?:i|my|we)\b.+)$"
)
_NAME_ME = re.compile(  # the name is told by its capital
    r"^(?:[Cc]all me|[Aa]ddress me (?:as|by)|[Rr]efer to me (?:as|by)|[Ii] go by) (?!(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day)(?!(?:When|If|At|On)\b)[A-Z]"
)
_EVER = _rule(
    r"^(?:always|never ever|never|(?:don't|do not|not) ever|only ever|under no circumstances(?: should you)?|in no case)"
    r" (?:please )?(?P<verb>[a-z]+(?:-[a-z]+)?)\b"
)
_NO_ORDER = _rule(  # what follows "never" or "always" when they do not order: participles, adverbs, idioms
    _one_of(
        "is, are, was, were, has, had, have, been, mind, again, seen, heard, done, gone",
        "thought, knew, known, said, got, felt, met, made, understood, found, took",
        "taken, went, told, came, saw, did, does, a, an, the, in, on, at, so, too, more",
        "less, happy, good, bad, nice, great, fun, easy, wrong, right, sure, late",
        r"early, there, here, \w+ed, \w+ing",
    )
)
_HELP = _one_of(  # what is forbidden to an assistant; "don't be afraid" and "don't give up" are said to console
    "suggest, recommend, mention, use, include, give(?! up), send, show, tell, add, make, share, offer, call",
    "address, ask, assume, book, repeat, quote, cite, write",
    "answer, respond, reply, explain, summari[sz]e, schedule, propose, put, order, choose, speak, talk, translate, list",
    "format, discuss, bring up, refer, remind",
)
_DO_NOT = _rule(rf"^(?:don't|do not|never|not) {_HELP}\b(?P<object>.*)$")
_POINTING = _rule(r"^ (?:me |us )?(?:the(?! (?:words?|terms?|phrases?|passive)\b)|this|that|it|these|those|them|him|her|anything yet)\b")
_STOP = _rule(
    r"^(?:(?:stop|quit) (?:\w+ly )?\w+ing\b|(?:avoid|refrain from|steer clear of|stay away from) \w+|no more \w+"
    r"|no \w+.*\b(?:ever|please|at all|in your \w+)[.!]*$)"
)
_ENSURE_ALL = _rule(r"^(?:ensure|make sure|see to it|check) (?:that )?(?:all|every|any|each) (?!(?:the|of|my|these)\b)")
_YOURS = _rule(rf"\byour (?:\w+ )?(?:{_ANSWER}|tone|style|language|wording)\b")
_ONE_OFF = _rule(
    r"\b(?:today|tonight|tomorrow|just once|for now|right now|at the moment|this (?!kind|sort|type|way)\w+",
    r"|the (?:first|second|third|last|next|previous|above|following|current))\b",
)
_THIS_TIME = _rule(r"\b(?:this time|for now|just this once|only tonight|tonight only)\b")
_BEHIND = _rule(r"(?:[;,]|\bso|\bbut)\s+(?:so |but )?(?:please )?(?=\w)")  # not "and": there the subject may go on
_REPORTED = _rule(r"\b(?:say|says|said|saying|tells?|told|motto|slogan|rule)\b")
_MANNER = _rule(
    r"\b",
    _one_of(
        r"answers?, repl(?:y|ies), respon(?:d|ses?), speak, talk to me, write to me, (?:call|address) me",
        r"refer to me, emojis?, tone, (?:in)?formal(?:ly)?, language",
        r"english, german, french, spanish, concise(?:ly)?, brief(?:ly)?, bullet points",
        r"jargon, apologi[sz]\w*, words?, phrases?, spelling, sentences?, paragraphs?",
        r"explanations, exclamation, polite(?:ly)?, slang, humou?r, small print, assume, every message, honest, at all times",
    ),
    r"\b",
)


def _instruction(sentence: str) -> tuple[str, ...] | None:
    """Topics of a standing instruction to the assistant, () for always; None when the sentence is not one."""
    question = sentence.endswith("?")
    if _WANT_YOURS.match(sentence) and not _ONE_OFF.search(sentence) and not question:
        return ()
    if not question and not _REPORTED.search(sentence):
        for match in _BEHIND.finditer(sentence):  # behind something else, only what says plainly that it is to last
            ever = _EVER.match(order := sentence[match.end() :])
            if _NAME_ME.match(order) or (ever and re.fullmatch(_ACT, ever["verb"], re.IGNORECASE)):
                return _scope_of(order, "")
    if question and not _ASKED.match(sentence):
        return None
    return _order(sentence)


def _order(sentence: str) -> tuple[str, ...] | None:
    """The same for a sentence that tells or asks somebody to do something: what stands around the order is taken off first."""
    rest, when, marked = sentence, "", False
    if front := _FRONT.match(rest):
        rest, marked = front["rest"], True
    if match := _WHEN_IN_FRONT.match(rest) or _WHEN_BEHIND.match(rest):
        rest, when, marked = match["rest"], match["when"], True
    rest = _LEAD.sub("", rest)
    if mind := _BEAR_IN_MIND.match(rest):
        return None if _ONE_OFF.search(rest) else _scope_of(mind["rest"], when)
    favour = _ASKED.match(rest) or _TOLD.match(rest)
    if favour:
        rest = _LEAD.sub("", favour["order"])
    return _scope_of(rest, when) if _lasts(rest, marked=marked, bare=not favour) else None


def _lasts(order: str, *, marked: bool, bare: bool) -> bool:
    """Whether an order holds for later too. marked: words around it say so. bare: an imperative as it stands, not asked for as a favour."""
    if _NAME_ME.match(order):
        return True
    if (ever := _EVER.match(order)) and not _NO_ORDER.fullmatch(ever["verb"]) and not _THIS_TIME.search(order):
        return bare or re.fullmatch(_ACT, ever["verb"], re.IGNORECASE) is not None
    if (_THIS_TIME if marked else _ONE_OFF).search(order):
        return False
    if _STOP.match(order) or _ENSURE_ALL.match(order):
        return True
    forbids = _DO_NOT.match(order)
    if (forbids or re.match(rf"{_ACT}\b(?!')", order, re.IGNORECASE)) and (marked or _MARKER.search(order) or _YOURS.search(order)):
        return True
    return bare and forbids is not None and not _POINTING.match(forbids["object"])


def _scope_of(order: str, when: str) -> tuple[str, ...]:
    """What an instruction applies to: its condition, else always when it is about how to answer, else what it names."""
    if when and not _WHEN_ANSWERING.search(when):
        return _topics(when)
    return () if when or _MANNER.search(order) or _NAME_ME.match(order) else _topics(order)


# ------------------------------------------------------------------ preferences
_OFTEN = (
    r"(?:(?:really|just|also|still|usually|generally|typically|mostly|normally|often|always|personally"
    r"|absolutely|truly|strongly|tend to|do|both|simply) )*"
)
_NOT_THIS = (  # what was just shown or said, or a turn of phrase
    r"(?! (?:it(?! (?:over|to)\b)|you|your|him|her|them|that|this|these|those|what|how|where|when|if"
    r"|to (?:say|admit|ask|bother|break|think|know|hear|see|be (?:rude|that|the|a))|not to (?:say|answer|discuss|comment|talk|think)"
    r"|the (?:way|idea|first|second|third|last|new|old|one|version|draft|suggestion|sound|look|fact|changes?|results?|answer|plan|option))\b)"
)
_HABIT = _one_of(
    "eat, drink, use, buy, choose, pick, order, take, book, wear, go for, travel, fly",
    "drive, pay, read, watch, listen, cook, work, sleep, train, smoke, consume",
    "celebrate, stay, sit, shop, cycle, walk, study, write in, code in, opt, stick",
)
_TRAIT = _one_of(
    "night owl, early bird, homebody, bookworm, foodie, minimalist, vegetarian, vegan, pescatarian, coeliac, celiac, diabetic, lactose[- ]intolerant",
    "gluten[- ]intolerant, teetotal, allergic, intolerant, colou?r-?blind, left-handed",
    "dyslexic, hard of hearing, deaf, blind, partially sighted, claustrophobic",
    r"wheelchair user, afraid of, scared of, fond of, keen on, partial to, averse to, into, sensitive to, (?:big |huge |great )?fan of, sucker for",
    r"more of an? [\w-]+ person, [\w-]+ (?:person|lover|enthusiast|learner|eater|drinker), picky, particular about, obsessed with, passionate about",
    "most comfortable, happiest",
)
_UNLIKED = _one_of(
    "like, enjoy, care for, want to be, trust, eat, drink, smoke, consume, wear, drive, fly, celebrate, gamble, do well with"
)
_AFFECTS = _one_of(
    "makes? me (?:feel )?(?:anxious|nervous|sick|ill|uncomfortable|sleepy"
    r"|tired|dizzy|sad|angry|uneasy|nauseous|itch|sneeze|cough), scares? me, bores? me, annoys? me, irritates? me, frightens? me, terrif(?:y|ies) me",
    "stress(?:es)? me, bothers? me, disgusts? me, relax(?:es)? me",
    "upsets? (?:me|my stomach), calms? me, drives? me (?:mad|crazy|nuts), gives? me (?:headaches|a headache|a rash|hives|heartburn|nightmares|migraines?)",
)
_SUITS = _one_of(
    "works? best for me, suits? me best, isn't for me, is not for me, isn't my thing, is not my thing, (?:doesn't|don't) agree with me",
    "(?:is|are) (?:a nightmare|torture|heaven|bliss|too much) for me",
)
_FAVOURITE = r"(?:all-time |absolute |personal |least )*(?:favou?rites?|preferred|go-to|cup of tea)"
_PREFERENCES = tuple(
    _rule(pattern)
    for pattern in (
        rf"^(?:i|we) {_OFTEN}(?:prefer|favou?r|love|like|enjoy|adore|value|dislike|hate|despise|detest|loathe)\b{_NOT_THIS}(?P<about> .+)",
        rf"^(?:i|we) (?:really |still |just )?(?:don't|do not) (?:really |usually |even )?{_UNLIKED}\b{_NOT_THIS}(?P<about>(?: .+|[.!]*$))",
        rf"^(?:i|we)(?:'ve| have) always (?:loved|liked|hated|preferred|enjoyed|disliked|adored|detested)\b{_NOT_THIS}(?P<about> .+)",
        r"^(?:i|we) (?:really )?(?:can't|cannot|can not|could never) (?:stand|bear|tolerate|abide|stomach|eat|drink|digest|handle)\b"
        r"(?! (?:it|you|him|her|them|this|that|to (?:think|see|look)|up|here|on|still|straight|for|in|at|by)\b)(?P<about> .+)",
        r"^(?:i|we)(?:'d| would) (?:much |always |generally )?rather (?!not\b|be told)(?P<about>.+)",
        r"^(?:i|we)(?:'d| would) (?:always|never) (?!have\b|be\b|been\b|had\b|seen\b|heard\b|\w+ed\b)"
        r"(?!(?:think|guess|say|believe|know|expect|imagine|forget|want|dare|dream)\b)(?P<about>.+)",
        rf"^(?:i|we) (?:only|never|always|usually|generally|typically|rarely|seldom|mostly|tend to|try to|normally) (?:ever )?{_HABIT}\b"
        r"(?! (?:it|that|this|the (?:same|wrong))\b)(?P<about> .+)",
        r"^(?:i|we) (?:usually |generally |always |try to |tend to )?(?:avoid|stay away from|steer clear of|stick (?:to|with)|opt for|lean towards?)\b"
        r"(?! (?:it|that|this)\b)(?P<about> .+)",
        r"^(?:i|we) (?:keep|observe) (?P<about>kosher|halal)\b",
        r"^(?:i|we) (?:follow|am on|'m on) an? (?P<about>[\w-]+(?: [\w-]+)? diet)\b",
        r"^(?:i'm|i am|we're|we are) (?P<about>(?:(?:not|really|very|also|just|quite|currently|severely|strictly|much of|an?|strict|lifelong) )*"
        rf"{_TRAIT}\b(?! (?:you|it|this|that)\b).*)",
        r"^i have (?:an? |the )?(?P<about>(?:\w+ ){0,3}"
        r"(?:allergy|intolerance|preference|weakness|dislike|aversion|soft spot|sweet tooth|fear|phobia|dyslexia|diabetes)\b.*)",
        rf"^(?:my|our) {_FAVOURITE}\b(?! was\b)(?P<about> .*\b(?:is|are|will always be|would be|has always been)\b.+)",
        rf"^(?P<about>(?!it\b|that\b|this\b|he\b|she\b|your\b).+ (?:is|are) (?:one of )?my {_FAVOURITE}\b.*)",
        r"^my (?:\w+ )?preference (?:is|would be|goes)\b(?P<about> .+)",
        r"^(?P<about>[\w' -]+ over [\w' -]+ for me\b.*)",
        rf"^(?P<about>(?!(?:it|that|this|he|she|you|they|the|what|there)\b)[\w' -]+? {_AFFECTS}\b.*)",
        rf"^(?P<about>[\w' -]+ {_SUITS})(?:$|[.!])",
        r"^nothing beats (?P<about>.+)",
        r"^(?:i|we) find (?P<about>.+ (?:easier|better|nicer|more \w+|too \w+|less \w+|unpleasant|boring|hard|difficult|relaxing|helpful)\b.*)",
        r"^what i (?:like|love|prefer|enjoy|hate|dislike)(?: most| best| least)? (?:is|are)\b(?P<about> .+)",
        r"^i (?:learn|work|think|sleep|focus|concentrate|study) (?:best|better)\b(?P<about>.+)",
    )
)
_ASKING = _rule(
    r"^(?:(?:what|which|who|whom|whose|where|when|why|how)(?!ever\b| i (?:like|love|prefer|enjoy|hate|dislike))\b",
    r"|(?:is|are|was|were|am|do|does|did|have|has|had|can|could|would|will|should|shall|may|might)(?:n't)? \w+)",
)
_SUPPOSING = _rule(r"^(?:if|whether|unless|i wish|suppose|imagine)\b")
_ABOUT_ANSWERS = _rule(r"^ (?:[\w-]+,? ){0,4}(?:answers?|replies|responses?)\b")
_WITHOUT_SUBJECT = _rule(r"^(?:never|usually|rarely|prefer|love|hate|dislike|can't stand)\b")


def _preference(sentence: str) -> tuple[str, ...] | None:
    """Topics of a lasting preference or need of the speaker's, () for one about answers; None when the sentence states none."""
    clauses = _clauses(sentence)
    for position, clause in enumerate(clauses):
        if _ASKING.match(clause) or _SUPPOSING.match(clause):
            return None  # what follows is asked or supposed, not stated
        match = next((found for pattern in _PREFERENCES if (found := pattern.match(clause))), None)
        if match and not _ONE_OFF.search(clause):
            following = takewhile(lambda clause: not _ASKING.match(clause), clauses[position + 1 :])
            return () if _ABOUT_ANSWERS.search(match["about"]) else _topics(" ".join([match["about"], *following]))
    return None


def _clauses(sentence: str) -> list[str]:
    """A sentence's clauses; one that goes on without its subject ("I don't own a car and never drive") gets it back."""
    found: list[str] = []
    for piece in _CLAUSE.split(sentence):
        clause = _LEAD.sub("", piece.strip())
        if found and re.match(r"i\b", found[-1], re.IGNORECASE) and _WITHOUT_SUBJECT.match(clause):
            clause = f"I {clause}"
        if clause:
            found.append(clause)
    return found


# ------------------------------------------------------------------ topics
MOST_TOPICS = 12
_DOMAINS = {
    "food": """vegetarian vegan pescatarian kosher halal meat pork beef chicken fish shellfish seafood nuts peanut dairy lactose gluten eggs milk cheese
        coriander garlic onion sugar spicy food eat cook cooking recipe meal dinner lunch breakfast brunch snack restaurant menu dish drink alcohol wine beer
        coffee tea dessert cake vegetable fruit diet cuisine ingredient soup salad bake hungry""",
    "travel": """flight fly plane airport airline seat train hotel hostel trip travel journey holiday vacation itinerary drive motorway luggage beach
        destination tour""",
    "code": "code coding python javascript typescript java rust sql function script programming bug api compile refactor snippet database query framework",
    "film": "film movie cinema series episode spoiler watch streaming documentary",
    "reading": "novel book read reading author fiction poem poetry literature",
    "music": "music song album concert band composer playlist jazz listen singer opera",
    "health": "medicine medication pill antibiotic penicillin doctor pain allergic allergy diabetic asthma vaccine dose symptom treatment prescription",
    "meetings": "meeting schedule calendar appointment phone reschedule",
}
"""A few everyday domains by their words, so that a wish about pork is found when somebody asks what to cook. A small bridge: an embedder goes further."""
_DOMAIN_OF = {stem: domain for domain, listed in _DOMAINS.items() for stem in words(listed)}
_NO_TOPIC = frozenset(
    words(
        """always never ever please whenever every time future going forward unless say ask mention tell talk want need prefer like love enjoy hate dislike
        favour favor favourite favorite really usually generally make sure use give keep remember rather much thing kind sort lot bring person one rule include
        suggest recommend show"""
    )
)
_WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*")


def _topics(text: str) -> tuple[str, ...]:
    """The words that say what a wish is about, and their domains."""
    found = [word for word in _WORD.findall(text.lower().replace("'", " ")) if (stems := words(word)) and not _NO_TOPIC.issuperset(stems)]
    return tuple(dict.fromkeys((*found[:MOST_TOPICS], *_domains(text))))


def _domains(text: str) -> list[str]:
    return [_DOMAIN_OF[stem] for stem in words(text) if stem in _DOMAIN_OF]


# ------------------------------------------------------------------ events and facts
_DAY = "(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_MONTH = _one_of("january, february, march, april, june, july, august, september, october, november, december")
_SPAN = r"(?:minutes?|hours?|days?|weeks?|months?|years?)"
_PERIOD = _one_of("week, month, year, spring, summer, autumn, fall, winter, weekend", _DAY)
_DATED = _rule(
    rf"\b(?:yesterday|today|tonight|tomorrow|last (?:night|{_PERIOD})|next {_PERIOD}|this (?:morning|afternoon|evening|{_PERIOD})",
    rf"|(?:\d+|an?|one|two|three|four|five|six|few|couple of) {_SPAN} (?:ago|from now)|in (?:\d+|an?|two|three|four|five|six) {_SPAN}",
    rf"|(?:in|since|by|until) (?:19|20)\d\d|\d{{4}}-\d\d-\d\d|\d{{1,2}}[./]\d{{1,2}}[./]\d{{2,4}}|(?:on|by|until|since|from) {_DAY}",
    rf"|{_MONTH}|(?:in|on|by|since) may|may \d{{1,2}}|\d{{1,2}}(?:st|nd|rd|th)? (?:of )?may)\b",
)
_HABITUAL = _rule(rf"\b(?:every|each|always|usually|never|often|whenever|on {_DAY}s)\b")
_REQUEST = _rule(
    rf"^(?:(?:let's|let us|help me|{_ACT}|look|imagine|suppose|find|fix|run|open|click|see|get|come|change|remove",
    r"|delete|rewrite|continue|forget|don't|do not)\b(?!')",
    r"|i(?:'d| would)? (?:need|want|like|love|ask)(?: you)? to (?:know|see|hear|ask|understand)\b|i(?:'d| would)? (?:need|want|like|love|ask) you to\b",
    r"|i(?:'m| am) (?:wondering|curious)\b|i wonder\b)",
)
_VERB = _rule(
    r"\b(?:am|is|are|was|were|be|been|has|have|had|do|does|did|will|would|can|could|should|must|may|might|got|went|came|took|made|said|told|met|saw|bought)\b",
    r"|\b\w{2,}(?:ed|[^s\W]s)\b|\b(?:i|we|you|they) \w+|\w'(?:m|s|re|ve|ll|d)\b",
)


def _kind(sentence: str) -> Literal[SemanticType.EVENT, SemanticType.FACT] | None:
    """Event or fact by the look of a sentence that is no wish; None for questions, requests, supposings and chat."""
    asks = sentence.endswith("?") or _ASKING.match(sentence) or _REQUEST.match(sentence) or _SUPPOSING.match(sentence)
    if asks or len(sentence.split()) < 3 or not _VERB.search(sentence):
        return None
    return SemanticType.EVENT if _DATED.search(sentence) and not _HABITUAL.search(sentence) else SemanticType.FACT
