"""What a statement gives a value to, when it is something that has one value at a time: where one lives and works, names, favourites. Pure.

Ours. A short list on purpose: of everything else ("I like tea", "my brother is tall") several values can be true together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from memos_core.conflict.wording import stems

_END = (
    r"(?=$|[,.;:!?()](?:\s|$)|\s+(?:and|but|with|since|because|for|now|any ?more|at the moment|last|next|this|in (?:19|20)\d\d|today"
    r"|yesterday|again|instead|so|after"
    r"|before|when|while|though|although|right|these|until|from|by|on|who|which|as|where|than|permanently|full-time)\b)"
)
_FILLER = rf"(?P<filler>[^\W\d][\w'&.-]*(?: [\w'&.-]+){{0,4}}?){_END}"
_VALUE = rf"(?P<filler>[\w+][\w'&.@+-]*(?: [\w'&.-]+){{0,4}}?){_END}"
_AGE = (
    r"(?P<filler>\d{1,3}|(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)(?:-\w+)?"
    r"|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen)"
)
_DEEDS = tuple(
    (attribute, re.compile(pattern, re.IGNORECASE))
    for attribute, pattern in (
        (
            "residence",
            r"(?<!of )\b(?:live[sd]?|living|reside[sd]?|residing|based|settled|moved|moving|relocat(?:ed|ing))"
            rf"(?: back| over| now| currently| out| permanently)* (?:in|to|at|near) {_FILLER}",
        ),
        ("left", rf"\b(?:quit|left|resigned from|fired from|laid off from)(?: (?:my|his|her|their) (?:job|position) at)? {_FILLER}"),
        (
            "employer",
            r"\b(?:(?<!to )(?<!it )(?<!freelance )work(?:s|ed|ing)?|employed|ha(?:ve|s) a job|got (?:an?|my) (?:new )?job|new job is"
            r"|switched jobs?)"
            rf"(?: full-time| part-time| now| currently)* (?:at|for) {_FILLER}",
        ),
        (
            "employer",
            rf"\b(?:joined|hired by|started (?:working )?(?:at|with)) {_FILLER}",
        ),
        ("occupation", rf"\b(?:work(?:s|ed|ing)? as|profession is|became|retrained as|job is) (?:an? )?{_FILLER}"),
        ("name", rf"\b(?:called|named|name is|name's|renamed(?: \w+)? to|goes by|changed (?:my|his|her|its|their) name to) {_FILLER}"),
        ("age", rf"\b(?:am|is|are|was|turned) {_AGE}(?= years? old)"),
        ("age", rf"\bturned {_AGE}\b|\b(?:i am|he is|she is) (?P<only>\d{{1,3}})(?= now|$)"),
        ("birthday", rf"\b(?:born (?:on|in)|birthday is(?: on| in)?) {_FILLER}"),
        ("field of study", rf"\b(?:major(?:s|ing|ed)? in|switched (?:my |his |her )?major to) {_FILLER}"),
        ("vehicle", rf"\b(?:i|he|she|we|they|[A-Z]\w+) (?:now )?(?:drives?|commutes? (?:by|in)) (?:an? |my |his |her )?{_FILLER}"),
        ("partner", rf"\b(?:married to|dating|engaged to|going out with) {_FILLER}"),
    )
)
_SINGLE = (
    "name|address|password|passcode|pin|e-?mail|number|phone|birthday|age|height|weight|colou?r|size|price|cost|budget|salary|rent|title|position|job|occupation"
    "|profession|major|nationality|hometown|home|office|headquarters|version|username|status|location|venue|room|gate|seat|blood type|deadline|due date|capital"
    "|editor|language|framework|database|default|destination|employer|school|university|team|bank"
)
# People in a role: "my boss is strict" says nothing against "my boss is Tom", so only names are compared.
_ROLES = (
    "boss|manager|supervisor|doctor|dentist|teacher|landlord|ceo|president|leader|owner|wife|husband|girlfriend|boyfriend|partner|fiancee?|best friend|roommate"
    "|captain|coach|mentor|advisor|therapist|neighbou?r"
)
_IS = re.compile(
    r"^(?:(?P<owner>my|our|his|her|their|its|the|(?:my \w+|[\w-]+)'s) )(?:new |current |actual )*"
    rf"(?P<name>(?:favou?rite|preferred) [a-z ]{{1,30}}?|(?:[a-z]+ ){{0,3}}?(?:{_SINGLE}|(?P<role>{_ROLES})))"
    r"(?: (?:for|of|at|to) (?:my |our |the )?(?P<about>[\w ]{1,30}?))?"
    r" (?:is|was|will be|are|became|(?:has |was |got )?(?:been )?(?:changed|switched|set|updated|moved)(?: from [\w ]{1,20}?)?(?= to))"
    rf"(?: (?:now|actually|currently|still|just|recently|to|in|on|at|called|named|not|no longer))* (?:an? |the )?{_VALUE}",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Attribute:
    """name: what is given a value. owner: whose it is. filler: the value, as stems. ended: it is said to be over."""

    name: str
    owner: str
    filler: str
    ended: bool = False


def attribute(text: str, subject: str, me: str, moment: bool) -> Attribute | None:
    """The attribute that a clause without lead-in gives a value to. moment: it names a date or time, which are compared as values of their own."""
    if (match := _IS.match(text)) and not moment and (not match["role"] or match["filler"][0].isupper()):
        owner, name, filler = match["owner"].lower(), match["name"].lower(), " ".join(stems(match["filler"]))
        owner = re.sub(r"^my\b", me, owner).removesuffix("'s")
        if name == "name" or name.endswith(" name"):
            thing = name.removesuffix("name").strip()
            return Attribute("name", f"{owner} {thing}".strip(), filler)
        return Attribute(" ".join(stems(f"{name} {match['about'] or ''}")), owner, filler)
    for name, pattern in _DEEDS:
        if (match := pattern.search(text)) and not (moment and name in ("residence", "birthday", "age", "employer", "left")):
            filler = " ".join(stems(match["filler"] or match["only"]))
            return Attribute("employer", subject, filler, ended=True) if name == "left" else Attribute(name, subject, filler)
    return None
