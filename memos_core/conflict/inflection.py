"""Every form of an English word leads to one stem: irregular forms by a table, the rest by Snowball. Pure.

Source: the irregular verbs and plurals of any school grammar; Snowball for regular endings.
"""

from __future__ import annotations

from functools import lru_cache

import snowballstemmer

# base: its irregular forms. Forms that are a common word of their own ("saw", "found", "left", "lay") lead to the verb, which is what they mostly are.
_FORMS = """
be:am is are was were been being|have:has had having|do:does did done doing|go:goes went gone going|say:said|make:made making
get:got gotten|take:took taken taking|see:saw seen|come:came coming|know:knew known|give:gave given giving|find:found|think:thought
tell:told|become:became becoming|leave:left leaving|feel:felt|put:putting|bring:brought|begin:began begun beginning|keep:kept|hold:held
write:wrote written writing|stand:stood|hear:heard|let:letting|mean:meant|set:setting|meet:met|run:ran running|pay:paid|sit:sat sitting
speak:spoke spoken|lie:lay lain lying|lead:led|read:reading|grow:grew grown|lose:lost losing|fall:fell fallen|send:sent|build:built
understand:understood|draw:drew drawn|break:broke broken|spend:spent|cut:cutting|rise:rose risen rising|drive:drove driven driving
buy:bought|wear:wore worn|choose:chose chosen choosing|seek:sought|throw:threw thrown|catch:caught|deal:dealt|win:won winning
forget:forgot forgotten|sleep:slept|teach:taught|eat:ate eaten|sing:sang sung|drink:drank drunk|swim:swam swum swimming
fly:flew flown flies|sell:sold|fight:fought|ride:rode ridden riding|shoot:shot|hit:hitting|hang:hung|hide:hid hidden hiding
shut:shutting|beat:beaten|bite:bit bitten biting|blow:blew blown|feed:fed|freeze:froze frozen|lend:lent|ring:rang rung
shake:shook shaken|shine:shone|show:shown|sink:sank sunk|steal:stole stolen|stick:stuck|strike:struck|swear:swore sworn|sweep:swept
swing:swung|tear:tore torn|wake:woke woken waking|weave:wove woven|wind:wound|withdraw:withdrew withdrawn|bear:bore borne|bend:bent
bet:betting|bind:bound|bleed:bled|breed:bred|burn:burnt|burst:bursting|cost:costing|creep:crept|dig:dug digging|dive:dove diving
dream:dreamt|flee:fled|forbid:forbade forbidden|forgive:forgave forgiven|grind:ground|hurt:hurting|kneel:knelt|lay:laid|lean:leant
leap:leapt|learn:learnt|light:lit|overcome:overcame|quit:quitting|rid:ridding|shed:shedding|shrink:shrank shrunk|slide:slid sliding
spell:spelt|spill:spilt|spin:spun spinning|spit:spat|split:splitting|spread:spreading|spring:sprang sprung|sting:stung|stink:stank stunk
swell:swollen|undergo:underwent undergone|undertake:undertook undertaken|upset:upsetting|wed:wedding|weep:wept|rewrite:rewrote rewritten
rebuild:rebuilt|redo:redid redone|misunderstand:misunderstood|mistake:mistook mistaken|man:men|woman:women|child:children
person:people persons|foot:feet|tooth:teeth|mouse:mice|goose:geese|life:lives|knife:knives|wife:wives|leaf:leaves|wolf:wolves
half:halves|shelf:shelves|loaf:loaves|thief:thieves|calf:calves|analysis:analyses|criterion:criteria|datum:data|index:indices indexes
good:better best|bad:worse worst|far:further farther|wash:washes|travel:travelled travelling|cancel:cancelled cancelling
label:labelled labelling|tie:tying|die:dying|ski:skis skiing|favorite:favourite favourites|color:colour colours colouring coloured
gray:grey|organize:organise organised organising|license:licence|center:centre centres|theater:theatre theatres
practice:practise practised practising|realize:realise realised|analyze:analyse analysed analysing|neighbor:neighbour neighbours
"""


@lru_cache(maxsize=1)
def irregular_forms() -> dict[str, str]:
    """Irregular forms and the base of each: took -> take, children -> child. Do not change it."""
    table: dict[str, str] = {}
    for entry in _FORMS.replace("\n", "|").strip("|").split("|"):
        base, _, forms = entry.partition(":")
        for form in forms.split():
            table.setdefault(form, base)
    table.pop("leaves", None)  # "she leaves" and "the leaves": the ending is left to Snowball
    table.pop("lives", None)  # "she lives" is said of more people than "their lives"
    return table


def irregular(word: str) -> bool:
    """Whether a word in lower case is an irregular form, such as took or children."""
    return word in irregular_forms()


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """The stem of a word in lower case: wrote, written, writes, writing -> write. Numbers and codes stay as they are."""
    if not word.isalpha():
        return word
    # A new stemmer each time a new word is met: the object keeps state while it works and threads share this cache.
    return str(snowballstemmer.stemmer("english").stemWord(irregular_forms().get(word, word)))
