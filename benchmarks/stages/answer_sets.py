"""Questions with known answers, made by rule from the captions of photographs (several a picture).

Captions say what is there and seldom what is not, so a rule asks for agreement and for silence: something is there when
``LEAST`` of a picture's captions mention it (all of them, for yes or no), and it is not when no caption does, nor any
word that might mean it. Pictures between the two are not asked about. Each set of questions comes in up to four forms:

- ``there``: the true answer is among the choices;
- ``removed``: the same pictures and choices without the true one: *none of these* is right;
- ``near``: pictures of something of the same kind that is not among the choices (people who do something else);
- ``absent``: pictures that have nothing to do with the question (how many dogs, where no dog is): *none of these* is
  right, and this is what the stated level is about.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from clipsearch.describe.mentions import stems

LEAST = 3  # captions that must agree
MOST = 150  # questions of a kind; of more a sample is drawn
NONE = "none of these"

DOGS = ("dog", "puppy", "pup", "greyhound", "terrier", "poodle", "collie", "retriever", "labrador", "lab", "dalmatian")
DOGS += ("hound", "husky", "shepherd", "beagle", "canine")
DOG = ",".join(DOGS)
MAN = "man,men,guy,gentleman,male"
WOMAN = "woman,women,lady,female"
CHILD = "child,children,kid,boy,girl,toddler,baby,infant"
ANYONE = "people,person,player,rider,couple,group,crowd,team,someone,worker,adult,teen,teenager,family,friend"
SPORTS = "surfer,swimmer,skier,snowboarder,skateboarder,cyclist,biker,climber,hiker,dancer"
SPORTS += ",runner,singer,kayaker,golfer,racer"
PERSON = ",".join((MAN, WOMAN, CHILD, ANYONE, SPORTS))
HUMAN = f"{PERSON},he,she,his,her,him,they,hand,face,arm,leg,foot,feet"
ANIMAL = f"{DOG},cat,horse,bird,animal,cow,sheep,duck"
WET = "ocean,sea,lake,river,pool,wave,stream,creek,pond,puddle,surf,swim,swimming,splash,shore,fountain,waterfall,boat"
BALL = "football,basketball,soccer,baseball,volleyball,softball,tenni,rugby"

YES_NO = {  # asked: (words that mention it, words that might mean it)
    "is there a dog in it?": (DOG, "animal"),
    "is there a person in it?": (PERSON, HUMAN),
    "is there a child in it?": (CHILD, ANYONE),
    "is there a man in it?": (MAN, f"{ANYONE},{SPORTS},he,his,him"),
    "is there a woman in it?": (WOMAN, f"{ANYONE},{SPORTS},girl,she,her"),
    "is there a ball in it?": (f"ball,{BALL}", "game,player,toy,catch,object"),
    "is there a bicycle in it?": ("bicycle,bike,cyclist,bicyclist,biker,biking,cycling", "motorcycle,ride,riding,race"),
    "is there a skateboard in it?": ("skateboard,skateboarder,skateboarding,skater,skate", "board,trick,ramp"),
    "is there snow in it?": (
        "snow,snowy,snowboarder,snowboarding,ski,skier,skiing,snowball",
        "ice,mountain,slope,sled",
    ),
    "is there water in it?": (f"water,{WET}", "beach,sand,surfer,surfing,wet,fish,fishing,swimmer"),
    "is there a car in it?": ("car,racecar,race-car,automobile", "vehicle,truck,street,traffic,road,taxi,van"),
    "is there a swing in it?": ("swing,swinging", "playground,park"),
    "is there a guitar in it?": ("guitar,guitarist", "music,band,instrument,musician,concert"),
}
SUBJECTS = {
    "dog": DOG,
    "man": MAN,
    "woman": WOMAN,
    "boy": "boy",
    "girl": "girl",
    "group of people": "people,crowd,team,children,band,family",
    "horse": "horse",
    "bird": "bird,duck,seagull,goose,geese",
    "car": "car,racecar,truck",
}
DOING = {
    "playing soccer": "soccer",
    "playing tennis": "tenni",
    "playing basketball": "basketball",
    "playing baseball": "baseball,softball",
    "playing football": "football",
    "skateboarding": "skateboard,skateboarder,skateboarding,skater",
    "surfing": "surf,surfing,surfer,surfboard",
    "riding a bicycle": "bicycle,bike,cyclist,bicyclist,biker,biking",
    "swimming": "swim,swimming,swimmer,pool",
    "climbing": "climb,climbing,climber",
    "snowboarding": "snowboard,snowboarder,snowboarding",
    "skiing": "ski,skiing,skier",
    "playing guitar": "guitar",
    "swinging": "swing,swinging",
}
DOG_DOES = {
    "running": "run,running,race,racing,chase,chasing",
    "jumping": "jump,jumping,leap,leaping",
    "swimming": "swim,swimming,paddling,wade,wading,swam",
    "sleeping": "sleep,sleeping,lay,laying,lying,lie,rest,resting",
    "sitting": "sit,sitting",
    "standing": "stand,standing",
    "fighting": "fight,fighting,wrestle,wrestling",
}
PLACES = {
    "beach": "beach",
    "snow": "snow,snowy",
    "street": "street,road,sidewalk,city",
    "swimming pool": "pool",
    "forest": "forest,wood,woods",
    "playground": "playground,slide",
    "mountains": "mountain,cliff",
    "grass": "grass,field,lawn,grassy",
    "stage": "stage,concert",
    "river": "river,creek,stream",
}
VEHICLE = "car,racecar,truck,vehicle,van,bus,taxi,traffic,jeep,street,road,race,racing,automobile"
THINGS = {  # what questions take for granted: (words that mention it, words that might mean it)
    "man": (MAN, HUMAN),
    "woman": (WOMAN, HUMAN),
    "child": (CHILD, HUMAN),
    "dog": (DOG, ANIMAL),
    "horse": ("horse", f"{ANIMAL},cowboy,rodeo,riding,polo,jockey"),
    "bird": ("bird,duck,seagull,goose,geese", f"{ANIMAL},seagull,goose,geese,pigeon,swan"),
    "car": ("car,racecar,truck", VEHICLE),
    "bicycle": (
        "bicycle,bike,cyclist,biker",
        "bicycle,bike,cyclist,biker,biking,cycling,ride,riding,race,motorbike,scooter",
    ),
    "ball": (f"ball,{BALL}", f"ball,{BALL},game,player,play,playing,toy,catch,object,sport"),
    "boat": ("boat,canoe,kayak", f"{WET},water,canoe,kayak,raft,sail,ship"),
}
DOES = {"man": DOING, "woman": DOING, "child": DOING, "horse": DOG_DOES, "bird": DOG_DOES}
COLOURS = ("black", "white", "brown", "red", "blue", "green", "yellow", "pink", "orange", "purple", "grey")
NUMBERS = ("one", "two", "three", "four")
_COLOUR = r"\b({})(?: and ({}))? (?:{})s?\b"
_MANY = re.compile(
    r"\b(two|three|four|five|six|seven|eight|several|many|some|group|crowd|pack|bunch|pair|couple|team|others?|another)\b"
)
_PERSONS = "people|persons|men|women|boys|girls|children|kids|guys|ladies|toddlers|players|adults|friends|teenagers"
_PERSON = r"\b(man|woman|boy|girl|child|kid|person|guy|lady|toddler|baby|player|teenager|surfer|skateboarder|cyclist)\b"


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a picture: its set and form, the choices (none for yes or no), and the true answer."""

    group: str
    form: str
    image: str
    text: str
    choices: tuple[str, ...]
    answer: str

    def row(self) -> list[str]:
        """Return it as ``clipsearch evaluate answers`` reads it."""
        return [self.image, self.text, "|".join(self.choices), self.answer]


Captions = Mapping[str, Sequence[str]]


def questions(captions: Captions, seed: int = 0) -> list[Question]:
    """Return all questions about pictures (name → captions), drawn with a seed."""
    rng = np.random.default_rng(seed)
    made = yes_no(captions, rng)
    dogs = {name: texts for name, texts in captions.items() if count(texts, DOG) >= LEAST}
    none = [name for name, texts in captions.items() if not count(texts, ANIMAL)]
    people = {name: captions[name] for name in none if count(captions[name], PERSON) >= LEAST}
    nobody = [name for name, texts in captions.items() if not count(texts, HUMAN)]
    still = [name for name, texts in people.items() if not count(texts, ",".join(DOING.values()))]
    made += _told("what", "what is in the picture?", SUBJECTS, captions, LEAST)
    made += _told("doing", "what are they doing?", DOING, people, LEAST, nobody, still)
    made += _told("where", "where is it?", PLACES, captions, LEAST)
    made += _told("dog does", "what is the dog doing?", DOG_DOES, dogs, 2, none)
    made += _colours("dog", "|".join(DOGS), ("black", "white", "brown"), dogs, none)
    made += _colours("shirt", "shirt|t-shirt|jersey|top", COLOURS[:2] + COLOURS[3:9], captions, [])
    made += _numbers("dogs", _dogs, captions, none)
    made += _numbers("people", _people, captions, nobody)
    made += _things(captions)
    made += _colours("shirt", "shirt", COLOURS[:2] + COLOURS[3:9], {}, nobody)
    return _sampled(made, rng)


def _things(captions: Captions) -> list[Question]:
    """Return questions that take a thing for granted, where captions tell of it and where it is not."""
    made: list[Question] = []
    for thing, (words, unsure) in THINGS.items():
        some = {name: texts for name, texts in captions.items() if count(texts, words) >= LEAST}
        none = [name for name, texts in captions.items() if not count(texts, unsure)]
        made += _told("where thing", f"where is the {thing}?", PLACES, some, LEAST, none)
        if thing in DOES:
            made += _told("thing does", f"what is the {thing} doing?", DOES[thing], some, LEAST, none)
    return [one for one in made if one.form != "removed"]  # "doing" and "where" tell of that


def classes(labels: Iterable[tuple[str, str]], words: Mapping[str, str], text: str) -> list[Question]:
    """Return a question about each labelled picture; the choices are the words of all classes."""
    every = tuple(words.values())
    there = [Question("clothes", "there", image, text, every, words[label]) for image, label in labels]
    return there + [without(one) for one in there]


def without(one: Question) -> Question:
    """Return a question whose true answer is no longer among the choices."""
    choices = tuple(choice for choice in one.choices if choice != one.answer)
    return Question(one.group, "removed", one.image, one.text, choices, NONE)


def count(texts: Sequence[str], words: str) -> int:
    """Return how many captions mention one of the words (with commas between)."""
    wanted = _stems(words)
    return sum(not wanted.isdisjoint(_stems(text)) for text in texts)


@cache
def _stems(text: str) -> frozenset[str]:
    return frozenset(stems(text))


def yes_no(captions: Captions, rng: np.random.Generator) -> list[Question]:
    """Return questions for yes or no, as many of the one as of the other for each thing."""
    made: list[Question] = []
    for text, (words, unsure) in YES_NO.items():
        yes = [name for name, texts in captions.items() if count(texts, words) == len(texts)]
        no = [name for name, texts in captions.items() if not count(texts, f"{words},{unsure}")]
        n = min(len(yes), len(no), MOST // 2)
        for answer, names in (("yes", yes), ("no", no)):
            drawn = sorted(rng.choice(names, n, replace=False).tolist()) if n else []
            made += [Question("yes or no", "there", name, text, (), answer) for name in drawn]
    return made


def _told(
    group: str,
    text: str,
    words: Mapping[str, str],
    captions: Captions,
    least: int,
    none: Iterable[str] = (),
    near: Iterable[str] = (),
) -> list[Question]:
    """Return questions about pictures of which the captions agree on one choice and name no other."""
    made = []
    for name, texts in captions.items():
        counts = {choice: count(texts, said) for choice, said in words.items()}
        named = [choice for choice, n in counts.items() if n]
        if len(named) == 1 and counts[named[0]] >= least:
            made.append(Question(group, "there", name, text, tuple(words), named[0]))
    close = [Question(group, "near", name, text, tuple(words), NONE) for name in near]
    return _forms(made, group, text, tuple(words), none) + close


def _forms(
    there: list[Question], group: str, text: str, choices: tuple[str, ...], nothing: Iterable[str]
) -> list[Question]:
    absent = [Question(group, "absent", name, text, choices, NONE) for name in nothing]
    return [*there, *(without(one) for one in there), *absent]


def _colours(what: str, nouns: str, choices: tuple[str, ...], captions: Captions, none: list[str]) -> list[Question]:
    """Return questions about the colour of something that captions give one colour, and the same."""
    text = f"what colour is the {what}?"
    pattern = re.compile(_COLOUR.format("|".join(COLOURS), "|".join(COLOURS), nouns), re.I)
    made = []
    for name, texts in captions.items():
        said = Counter(
            tuple(c for c in match.groups() if c) for line in texts for match in pattern.finditer(line.lower())
        )
        only = next(iter(said), ())
        if len(said) == 1 and len(only) == 1 and only[0] in choices and said[only] >= 2:
            made.append(Question(f"colour of {what}", "there", name, text, choices, only[0]))
    return _forms(made, f"colour of {what}", text, choices, none)


def _numbers(
    what: str, number: Callable[[Sequence[str]], str | None], captions: Captions, none: list[str]
) -> list[Question]:
    text = f"how many {what} are there?"
    choices = NUMBERS[:3] if what == "dogs" else NUMBERS
    found = {name: number(texts) for name, texts in captions.items()}
    made = [
        Question(f"how many {what}", "there", name, text, choices, said)
        for name, said in found.items()
        if said is not None and said in choices
    ]
    return _forms(made, f"how many {what}", text, choices, none)


def _dogs(texts: Sequence[str]) -> str | None:
    """Return how many dogs captions agree on, or None."""
    kinds = "|".join(DOGS)
    if count(texts, DOG) < len(texts):
        return None
    return _agreed(texts, rf"{kinds}|puppies", rf"({kinds})s\b|puppies")


def _people(texts: Sequence[str]) -> str | None:
    """Return how many people captions agree on, or None."""
    lines = [text.lower() for text in texts]
    if all(len(re.findall(_PERSON, line)) == 1 for line in lines) and not any(_MANY.search(line) for line in lines):
        return None if any(re.search(rf"\b({_PERSONS})\b", line) for line in lines) else "one"
    return _agreed(texts, _PERSONS, rf"\b({_PERSONS})\b", least=LEAST, one=False)


def _agreed(texts: Sequence[str], nouns: str, plural: str, least: int = LEAST, one: bool = True) -> str | None:
    lines = [text.lower() for text in texts]
    if one and not any(re.search(plural, line) or _MANY.search(line) for line in lines):
        return "one"
    said = [{n for n in NUMBERS[1:] if re.search(rf"\b{n} (?:[\w-]+ ){{0,3}}(?:{nouns})s?\b", line)} for line in lines]
    every = set().union(*said)
    number = next(iter(every), None)
    others = {"several", "many", "group", "crowd", "pack", "bunch", "team", "one", *NUMBERS[1:], "five", "six"} - every
    if len(every) != 1 or sum(number in some for some in said) < least:
        return None
    return None if any(others & set(stems(line)) for line in lines) else number


def _sampled(made: list[Question], rng: np.random.Generator) -> list[Question]:
    """Return at most ``MOST`` questions of each set, form and true answer, each picture at most once in these."""
    kept: list[Question] = []
    groups: dict[tuple[str, str, str, str], list[Question]] = {}
    for one in made:
        groups.setdefault((one.group, one.form, one.text, one.answer if one.form == "there" else ""), []).append(one)
    for (_, form, _, _), some in groups.items():
        most = MOST if form == "there" else 4 * MOST
        drawn = rng.choice(len(some), min(len(some), most), replace=False)
        kept += [some[n] for n in sorted(drawn.tolist())]
    return kept
