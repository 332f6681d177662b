"""Words that the rules for statements know: verbs, prepositions, people, places, numbers and times of English."""

from __future__ import annotations

import re

BE = frozenset("is are was were am".split())
HAVE = frozenset("has have had".split())
PREPOSITIONS = frozenset(
    "in at on to from by as for with of near under over into about against behind beside since during after before across around".split()
)
DETERMINERS = frozenset("the a an my our his her their its this that".split())
MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
DAYS = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
YEAR = re.compile(rf"(?:in |since )?(?:1[0-9]|20)\d\d$|.*\b(?:{MONTHS}|{DAYS})\b")
SEASON = re.compile(
    rf"(?:(?:the|early|late) )*(?:spring|summer|autumn|winter|morning|afternoon|evening|night|weekends?|weekdays|(?:{DAYS})s)$"
)
NUMBERS = "one two three four five six seven eight nine ten eleven twelve".split()
CLOCK = re.compile(
    rf"(?:(?:half past|quarter past|quarter to) )?(?:{'|'.join(NUMBERS)}|[012]?\d(?:[:.]\d\d)?)(?: ?(?:am|pm|o'clock))?$|noon$|midnight$"
)
BASES = {"goes": "go", "does": "do", "has": "have", "studies": "study", "flies": "fly", "carries": "carry", "teaches": "teach"}

# Verbs that statements about people and things are made of. Others are taken for verbs only straight behind a name.
VERBS = frozenset(
    """accept ache acquire act add admire adopt affect agree allow amuse announce answer appear apply argue arrange arrive ask attend avoid
bake bark base become begin believe belong bite blow boil book borrow break breed bring build burn buy calculate call camp care carry catch
celebrate change charge chase check choose claim clean climb close collect come command commute compete complain complete compose conduct
connect consist contain continue control cook copy correct cost count cover crash create cross cultivate cure cut cycle dance date deal
decide declare decorate defeat define deliver depend describe deserve design destroy develop die dig direct discover discuss dislike display
distribute dive divide divorce donate draw dream dress drink drive drop earn eat edit elect emigrate employ encourage end enjoy enter
escape establish examine exceed exist expand expect explain explore export express face fail fall farm fear feed feel fight fill film find
finish fit fix flow fly follow forget form found freeze fry function gain gather get give go govern graduate grow guard guide hang happen
harvest hate have head hear heat help hide hike hire hit hold host house hum hunt hurt ignore illustrate imagine import improve include
increase influence inherit inspire install intend introduce invent invest invite iron join joke jump keep kick kill know land last launch
lead lean learn leave lend let lie lift like link list listen live load lock look lose love maintain make manage manufacture mark marry
measure meet mention mine miss mix move name need notice obey observe occupy occur offer open operate orbit order organise organize
overlook own pack paint park participate pass pay perform photograph pick plan plant play possess post practise practice praise pray
predict prefer prepare present preserve print produce program promise protect prove provide publish pull push put quit raise reach read
receive recommend record recover refuse remain remember remove rent repair replace report represent require rescue research resemble respect
rest restore retire return review ride ring rise rule run sail save say see seek seem sell send separate serve set settle sew shake share
shine shoot show shut sign sing sink sit ski sleep smell smoke solve sound span speak specialise specialize spend stand start state stay steal
stop store study succeed suffer suggest supply support surround survive sweep swim take talk taste teach tell test think throw tie touch
train transfer translate transport travel treat trust try tune turn understand use value visit volunteer vote wait wake walk want wash waste
watch water wear weave weigh welcome win wish work worry write""".split()
)
# Of these the form in -s is as often a noun: "The project plans cover three years".
ALSO_NOUNS = frozenset(
    """answer book call care change charge check claim copy cost cover cross dance date design display dream dress drink drive end fear fight
film fit form guard guide help host house hunt import export iron joke jump kick land lead lift link list load lock look love mark measure
mine move name need offer order park pass pay plan plant play post present print program promise record rent repair report rest return
review ride ring rise rule run sail share show sign smell smoke sound stand start state stay stop store study supply support talk taste
test touch train transfer transport travel treat try tune turn use value visit vote wait walk wash watch water win wish work
work""".split()
)
UNCHANGED = frozenset("cost cut hit hurt let put quit read set shut split spread".split())  # of the same form in the past
NOT_VERBS = frozenset(  # what the table of irregular forms leads to that is no verb
    """man woman child person foot tooth mouse goose life knife wife leaf wolf half shelf loaf thief calf analysis criterion datum index good
bad far favorite color gray license center theater neighbor wed wind be""".split()
)
# Without an object or a preposition nothing is asked of them: "Ana works hard".
WITHOUT_OBJECT = frozenset(
    "arrive belong come die exist fall go happen lie live occur remain seem appear sit sleep stand stay wait work".split()
)
GIVING = frozenset("give tell send show teach offer lend sell bring pay".split())
GOING = frozenset("move go come travel fly drive emigrate return walk cycle commute leave sail run depart moving going travelling".split())
STAYING = frozenset("live stay stand hang lie sit sleep park keep".split())
NOT_PLACES = frozenset(
    """interested fluent involved good bad believe specialise specialize major invest trust participate compete succeed graduate skilled
experienced excellent laugh look rich""".split()
)
MEETING = frozenset("marry meet".split())
ADVERBS = frozenset(
    """always sometimes often never usually also now just still even already really only perhaps maybe soon then today yesterday tomorrow
here there ever once twice currently recently ago""".split()
)
# Answers that answer nothing: "Ana lives here".
EMPTY = frozenset("here there now today yesterday tomorrow well alone hard fast home it him them her us me out in up off down away".split())
NEGATIONS = frozenset("not no never nobody nothing none neither nor hardly cannot without".split())
MODALS = frozenset("can could will would shall should may might must do does did ought".split())
CLAUSES = frozenset(
    """who which whom whose that because although though if when while where unless until than whether what how why but so or and i he she
we they you there""".split()
)
# What a statement about somebody or something does not begin with: questions, greetings, requests, pronouns, circumstances.
NOT_FIRST = frozenset(
    """who what where when why how which whose whom is are was were am do does did can could would should shall might must has have had
hello hi hey dear thanks thank yes no ok okay please well oh he she it we they you there here this these those everyone everybody someone
somebody nobody nothing something everything anyone one remember tell ask note say call give let let's make buy send see write read think
check keep take in on at to from by as for with of near under over after before since during if because although though while until
yesterday today tomorrow now then maybe perhaps sometimes usually often always never not so and or but also first finally however actually
i'm i've i'll i'd it's he's she's that's there's we're they're you're what's who's""".split()
) - {"this"}
QUANTITIES = frozenset(
    "some many most several few every each all both these those your two three four five six seven eight nine ten".split()
)
OPENERS = DETERMINERS | QUANTITIES
TIMES = frozenset("day week month year morning afternoon evening night time spring summer autumn winter".split())
PEOPLE = frozenset(
    """brother sister mother father mum dad parents son daughter child children baby wife husband partner friend friends cousin uncle aunt
nephew niece grandmother grandfather grandma grandpa neighbour neighbours neighbor neighbors colleague colleagues boss teacher teachers
doctor doctors dentist nurse nurses lawyer landlord tenant student students pupil pupils professor engineer engineers painter writer author
singer baker farmer farmers gardener manager assistant director president mayor king queen minister secretary chef cook pilot driver
drivers plumber man men woman women boy boys girl girls people person team family guest guests customer patient client owner twins
flatmate roommate girlfriend boyfriend fiancée fiancé therapist coach trainer editor user users ceo cto chair leader captain inventor member members""".split()
)
THINGS = frozenset(
    "capital city town village river lake mountain island country home seat centre center port street bridge book song".split()
)
ADJECTIVES = frozenset("old new young big small large little good bad red green blue black white grey brown yellow long short".split())
SITES = frozenset(
    """park school garden village town city house flat apartment office shop kitchen hospital library museum hotel factory university bank
restaurant bakery forest station cellar street""".split()
)
PARTICLES = frozenset("de del della di da dos das du van von der den la le el al bin ibn y e of and".split())
TITLES = frozenset("Dr. Mr. Mrs. Ms. St. Prof. Mt. Jr. Sr. No.".split())
FIRST_PERSON = frozenset("me myself mine our ours us".split())
LONGEST = 600  # characters
