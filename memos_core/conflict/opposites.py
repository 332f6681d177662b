"""Words that mean the opposite of one another, and words that mean much the same: data, by hand. Pure.

Ours. Opposites are only pairs where one cannot well be said together with the other of the same thing at the same time; words that are
merely different (red and blue) are not in here, nor what one does from one moment to the next (sit and stand, eat and sleep). Likeness
is kept coarse on purpose: it decides whether two statements are about the same.
"""

from __future__ import annotations

from functools import lru_cache

from memos_core.conflict.inflection import stem

_OPPOSITES = """
accept/reject accept/decline accept/refuse add/remove agree/disagree alive/dead allow/forbid allow/ban allow/deny allow/prohibit
permit/forbid always/never always/rarely often/rarely often/seldom ancient/modern appear/disappear approve/reject arrive/leave
arrive/depart asleep/awake sleep/wake attach/detach attack/defend available/unavailable avoid/seek awake/sleep bad/good poor/excellent
beautiful/ugly before/after begin/end begin/finish begin/stop start/stop start/finish start/end begin/cease start/quit join/leave
join/quit big/small big/little large/small large/little huge/tiny bitter/sweet boring/interesting boring/exciting bored/excited
borrow/lend bottom/top brave/afraid brave/cowardly bright/dark bright/dim broad/narrow wide/narrow build/demolish build/destroy
busy/free busy/idle buy/sell calm/nervous calm/anxious relaxed/anxious relaxed/stressed relax/stress cancel/confirm careful/careless
cheap/expensive cheerful/sad clean/dirty clear/cloudy sunny/cloudy sunny/rainy clever/stupid close/open closed/open shut/open cold/hot
cold/warm cool/warm cool/hot freezing/hot comfortable/uncomfortable common/rare complete/incomplete conceal/reveal hide/show hide/reveal
confident/insecure confident/nervous connect/disconnect connected/disconnected continue/stop continue/quit correct/incorrect
correct/wrong right/wrong create/destroy crowded/empty cruel/kind damage/repair break/repair break/fix broken/intact broken/working
danger/safety dangerous/safe dark/light deep/shallow demand/supply deny/admit deny/confirm deny/grant die/survive different/same
difficult/easy hard/easy dry/wet dry/damp early/late easy/tough empty/full empty/fill enable/disable enabled/disabled
encourage/discourage enemy/friend enter/exit enter/leave even/odd expand/shrink expand/contract fail/succeed fail/pass failure/success
false/true familiar/strange famous/unknown far/near far/close fast/slow quick/slow quickly/slowly fat/thin thick/thin fat/slim
female/male finish/continue first/last float/sink forget/remember forward/backward forwards/backwards found/lost find/lose fresh/stale
fresh/rotten front/back full-time/part-time gain/lose generous/selfish generous/stingy gentle/rough gentle/harsh guilty/innocent
happy/sad happy/unhappy happy/miserable glad/sad hard/soft hate/love hate/like hate/enjoy love/dislike like/dislike enjoy/dislike
loathe/love detest/love adore/hate healthy/sick healthy/ill well/ill heavy/light help/hinder high/low hire/fire honest/dishonest
hot/cool huge/small ignore/notice import/export improve/worsen increase/decrease increase/reduce increase/drop increase/fall rise/fall
rise/drop grow/shrink raise/lower climb/fall gain/drop up/down upstairs/downstairs upward/downward include/exclude indoor/outdoor
indoors/outdoors inside/outside in/out into/out on/off inhale/exhale junior/senior lazy/diligent legal/illegal lift/lower
lift/drop lock/unlock locked/unlocked long/short tall/short loose/tight loud/quiet loud/silent noisy/quiet noisy/silent silent/talking
silent/speak silent/talk silent/sing silent/noise quiet/shout major/minor many/few married/single married/divorced married/unmarried
maximum/minimum maximize/minimize mature/immature meat-eater/vegetarian vegan/omnivore moving/still motionless/moving natural/artificial
natural/synthetic neat/messy tidy/messy necessary/unnecessary new/old young/old old/young north/south east/west northern/southern
eastern/western nowhere/everywhere nobody/everybody none/all obey/disobey online/offline optimistic/pessimistic ordinary/extraordinary
pack/unpack parent/orphan patient/impatient peace/war polite/rude polite/impolite positive/negative possible/impossible praise/criticize
present/absent private/public prefer/dislike pretty/ugly probable/improbable likely/unlikely profit/loss promote/demote proud/ashamed
public/secret pull/push qualified/unqualified receive/send refuse/agree regular/irregular remain/leave stay/leave stay/go
remember/forgot reward/punish rich/poor wealthy/poor rough/smooth rural/urban safe/unsafe satisfied/dissatisfied satisfied/unsatisfied
satisfied/disappointed save/spend save/waste separate/together alone/together alone/accompanied simple/complex simple/complicated
single/double fast/eat skinny/fat sober/drunk solid/liquid sour/sweet stable/unstable strong/weak sunrise/sunset dawn/dusk teach/learn
temporary/permanent tense/relaxed tie/untie tiny/large trust/distrust tired/energetic tired/rested exhausted/rested ugly/handsome
under/above under/over above/below over/below useful/useless vacant/occupied visible/invisible visit/avoid voluntary/compulsory
optional/mandatory optional/required warm/cool wax/wane win/lose victory/defeat wise/foolish with/without worse/better worst/best
zip/unzip dress/undress plug/unplug load/unload install/uninstall subscribe/unsubscribe follow/unfollow employed/unemployed
work/unemployed working/retired student/graduate single/engaged pregnant/childless able/unable approve/disapprove
appropriate/inappropriate certain/uncertain sure/unsure fair/unfair kind/unkind lucky/unlucky popular/unpopular pleasant/unpleasant
reliable/unreliable responsible/irresponsible stressful/relaxing successful/unsuccessful tolerant/allergic eat/fast forward/back
attend/miss attend/skip meet/miss assemble/disassemble dress/bare clothed/naked dressed/naked dressed/undressed hairy/bald
long-haired/bald bearded/shaven blond/dark blond/brunette straight/curly straight/crooked still/move stop/move freeze/melt freeze/boil
boil/cool heat/cool arrive/miss advance/retreat approach/leave approach/retreat ascend/descend attract/repel victory/loss
majority/minority plus/minus inner/outer interior/exterior internal/external vertical/horizontal domestic/foreign domestic/wild
tame/wild fertile/barren guest/host teacher/pupil master/servant husband/bachelor bachelor/married widow/married noon/midnight
summer/winter heaven/hell ally/enemy amateur/professional novice/expert beginner/expert beginner/advanced basic/advanced
beginner/experienced inexperienced/experienced vegetarian/meat vegan/meat vegan/dairy vegan/cheese vegetarian/steak teetotal/drink
teetotal/alcohol nonsmoker/smoke abroad/home remote/office remotely/onsite approved/denied granted/denied granted/refused paid/unpaid
finished/unfinished solved/unsolved read/unread known/unknown used/unused married/widowed bilingual/monolingual on-time/late
punctual/late
"""
# Each line: words that in everyday talk are said of the same thing or deed.
_LIKE = """
man guy gentleman fellow male bloke|woman lady female|boy lad|girl lass|child kid toddler baby infant youngster
person someone somebody human individual anyone|people crowd persons folks humans|person man guy|person woman lady|person child kid
person boy girl|child boy|child girl|woman girl|man boy|people men|people women|people children|someone man|someone woman|mother mom mum
father dad|grandmother grandma|grandfather grandpa|dog puppy pup canine hound|cat kitten kitty feline|car automobile vehicle
bicycle bike cycle|motorcycle motorbike|plane airplane aircraft jet|boat ship vessel|road street|sea ocean|forest wood woods
hill hillside slope|mountain peak|picture photo photograph image|phone cellphone telephone mobile|couch sofa|meal dinner supper
shop store|house home|apartment flat|job work employment position|film movie|autumn fall|doctor physician|lawyer attorney|food meal
cap hat|instrument guitar piano flute violin|pot pan skillet|pan skillet|vegetable carrot potato tomato onion|meat beef pork|fish shrimp
shirt tshirt blouse|jacket coat|bag backpack sack|rock stone boulder|ball football basketball baseball|field meadow grass
lawn grass yard|big large huge giant enormous great|small little tiny|fast quick rapid|happy glad joyful cheerful|sad unhappy
angry mad furious|beautiful pretty lovely|old elderly aged|young youthful|begin start commence|end finish conclude complete
stop cease quit|cut slice chop dice carve|look watch see stare view gaze observe|talk speak chat converse|say tell state mention
run jog sprint race dash|walk stroll hike march|jump leap hop bounce|climb ascend scale|throw toss hurl fling|hit strike
get receive obtain acquire|give hand|buy purchase|sell vend|make create build produce|cook prepare fry bake|eat dine consume|drink sip
ride drive|perform play do|hold carry grasp|put place set lay position|wear dress|clean wash wipe|fix repair mend
show display demonstrate|use employ utilize apply|help assist aid|try attempt|want wish desire|like enjoy love|dislike hate|need require
live reside dwell|stay remain|leave depart go|arrive come|rise increase climb grow jump surge
fall drop decline decrease slip slide decline|reduce cut lower|announce report declare|ask request|answer reply respond
choose select pick|allow let permit|stir mix blend|peel strip skin|pour empty|fold bend|swim bathe|dance perform|sing perform
draw sketch|paint color|write compose|read study|study learn practice|teach train|lie rest|sleep nap doze|sit seat|touch pet stroke
buy acquire|meet encounter|visit attend|attend join enroll|enroll register|submit send file|finish complete|collaborate work
implement integrate build write add develop|deploy release launch|test check verify|fix resolve solve debug
course class training lesson workshop program|meeting call appointment session|error bug issue fault|deadline due|salary pay wage income
boss manager supervisor|coworker colleague|spouse husband wife partner|illness disease sickness|practice solve attempt complete exercise
anxious worried nervous stressed|excited thrilled|tired exhausted|smart clever intelligent|rich wealthy|cheap inexpensive
near close beside by next|quickly fast rapidly|outdoors outside|indoors inside|alone solo|group team bunch|pair couple two
several few some|many lots numerous|lots plenty
"""


@lru_cache(maxsize=1)
def _opposites() -> dict[str, frozenset[str]]:
    table: dict[str, set[str]] = {}
    for pair in _OPPOSITES.split():
        one, other = (stem(word) for word in pair.split("/"))
        if one != other:
            table.setdefault(one, set()).add(other)
            table.setdefault(other, set()).add(one)
    return {word: frozenset(others) for word, others in table.items()}


@lru_cache(maxsize=1)
def _groups() -> dict[str, frozenset[int]]:
    table: dict[str, set[int]] = {}
    for number, line in enumerate(_LIKE.replace("\n", "|").strip("|").split("|")):
        for word in line.split():
            table.setdefault(stem(word), set()).add(number)
    return {word: frozenset(numbers) for word, numbers in table.items()}


def opposite(one: str, other: str) -> bool:
    """Whether two stems exclude each other."""
    return other in _opposites().get(one, ())


def opposites_of(word: str) -> frozenset[str]:
    """All stems that exclude this one."""
    return _opposites().get(word, frozenset())


def alike(one: str, other: str) -> bool:
    """Whether two stems are the same or mean much the same."""
    groups = _groups()
    return one == other or not groups.get(one, frozenset()).isdisjoint(groups.get(other, frozenset()))
