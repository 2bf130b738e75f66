"""From a question and its choices to statements about the picture.

A dual encoder knows how well a statement fits a picture; it does not answer questions. So each choice becomes the
statement that would be true if it were the answer: "how many dogs are there?" and "two" become "two dogs". For each
form of question there are *fillers* too: the same statements with arbitrary words in place of what is asked about.
They are what "nothing of the kind is to be seen" looks like.

    yes or no      is there a dog?             a dog                      a {thing}
    how many       how many dogs are there?    two dogs                   two {thing}s
                   how many people are there?  two people, two women ...  two {thing}s
    what colour    what colour is the car?     a red car                  a {thing}
    where          where are they?             a photo taken at the beach a photo taken at the {thing}
    doing          what is the dog doing?      a dog is swimming          {thing}
    anything else  what is this?               a cat                      a {thing}

What somebody does and where something is *take for granted* that it is there: "what is the dog doing?" asked where only
snow is would be answered by what is done in snow. So these come with the statements of "is there a dog?".
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from clipsearch.describe.labels import article, default_labels
from clipsearch.errors import InputError

MAX_QUESTION = 500  # characters; more than a text tower reads
MAX_CHOICES = 1_000
YES_NO = ("yes", "no")
N_FILLERS = 240
_YES_NO = re.compile(
    r"(is|are) there (?P<what>.+)|(does|do) (it|this|the (picture|photo|image)) (show|contain|have) (?P<that>.+)", re.I
)
_IS_IT = re.compile(r"(is|are) (it|this|that|these|they) (?P<what>.+)", re.I)
_HOW_MANY = re.compile(r"how many (?P<what>.+?)( (are|is|can|do) .*)?", re.I)
_COLOUR = re.compile(
    r"(what|which) colou?r (is|are|has) (the |this |that |these |those )?(?P<what>.+?)"
    r"( in (it|the (picture|photo|image)))?",
    re.I,
)
_WHERE = re.compile(
    r"where (is|are|was|were) (?P<who>(the |this |that |these |those |my |our |his |her |their )?\S+( .+?)??)"
    r"( (sitting|standing|lying|sleeping|running|walking|playing|swimming|going|parked|located|now)( .+)?"
    r"|( being)? (taken|shot|photographed|made)( .+)?)?",
    re.I,
)
_DOING = re.compile(r"what (is|are) (?P<who>.+?) doing.*", re.I)
_PLACE = re.compile(r"^(in|on|at|under|over|near|by|inside|outside|indoors|outdoors)\b", re.I)
_TAIL = re.compile(r" (in|on) (it|this|the (picture|photo|image)|here)$", re.I)
_ONE = ("one", "1", "a", "an", "just one", "only one")
_PEOPLE = {"people": "person", "men": "man", "women": "woman", "children": "child", "mice": "mouse", "sheep": "sheep"}
_KINDS = {"people": ("people", "men", "women", "children")}
_DETERMINER = re.compile(r"^(a|an|any|some|the) ", re.I)
_THE = re.compile(r"^(a|an|any|some|the|this|that|these|those|my|our|his|her|their) ", re.I)
_PRONOUNS = {"he": "man", "she": "woman", "they": "people"}
_PERSONS = ("people", "men", "women", "children", "man", "woman", "boy", "girl")
_WORDS = {  # what goes by several words is there if one of them is
    **dict.fromkeys(("people", "person", "someone", "somebody", "everyone", "everybody"), _PERSONS),
    **dict.fromkeys(("child", "kid"), ("child", "boy", "girl")),
}
_NOTHING = ("it", "this", "that", "i", "we", "you", "picture", "photo", "photograph", "image", "scene")


@dataclass(frozen=True, slots=True)
class Taken:
    """What a question takes for granted: ``what``, in its words; statements of each word for it; fillers."""

    what: str
    statements: tuple[tuple[str, ...], ...]
    fillers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as statements.

    Attributes:
        question: as given.
        kind: "yes or no", "how many", "what colour", "where", "doing" or "open".
        choices: the answers.
        statements: for each choice one statement or several; for "yes or no" only for yes.
        fillers: the same with arbitrary words.
        taken: what has to be there for any choice to be right; None where nothing is named.
    """

    question: str
    kind: str
    choices: tuple[str, ...]
    statements: tuple[tuple[str, ...], ...]
    fillers: tuple[str, ...]
    taken: Taken | None = None

    @property
    def is_yes_no(self) -> bool:
        """Tell whether there is one statement, which holds or does not."""
        return self.kind == "yes or no"


def read_question(question: str, choices: Sequence[str] | None) -> Asked:
    """Turn a question and its choices into statements; without choices it must be one for yes or no.

    Raises:
        InputError: there is no question, it is too long, choices are missing, equal or too many.
    """
    asked = " ".join(question.split()).rstrip("?!. ")
    if not asked:
        raise InputError("The question is empty. Ask something, such as 'how many dogs are there?'")
    if len(question) > MAX_QUESTION:
        raise InputError(
            f"The question has {len(question):,} characters; at most {MAX_QUESTION} are read.\n"
            "Ask one thing in one sentence."
        )
    given = [" ".join(choice.split()) for choice in choices or ()]
    if not given or [choice.lower() for choice in given] == list(YES_NO):
        what = _claim(asked)
        if what is not None:
            return Asked(question, "yes or no", YES_NO, (_statements(what),), _fillers("{a}{}"))
    if not given:
        raise InputError(
            f"{question[:80]!r} is an open question, which takes choices, or a model that writes.\n"
            "Give --choices one,two,three, or --model FOLDER (see clipsearch ask --help)."
        )
    _check(given)
    kind, statements, fillers = _by_form(asked, given)
    return Asked(question, kind, tuple(given), tuple(statements), fillers, _taken(asked))


def _check(choices: Sequence[str]) -> None:
    if not all(choices):
        raise InputError("One of the choices is empty. Write them with commas between: --choices one,two,three")
    if len(choices) > MAX_CHOICES:
        raise InputError(f"There are {len(choices):,} choices; at most {MAX_CHOICES:,} are compared.")
    seen: set[str] = set()
    for choice in choices:
        if choice.lower() in seen:
            raise InputError(f"The choice {choice!r} stands there twice, so neither could win. Give each once.")
        seen.add(choice.lower())
    if len(choices) < 2:
        raise InputError(f"{choices[0]!r} is the only choice. Give two or more, or ask for yes or no: 'is there ...?'")


def _claim(asked: str) -> str | None:
    """Return what a question for yes or no claims to be there, or None."""
    for form, names in ((_YES_NO, ("what", "that")), (_IS_IT, ("what",))):
        match = form.fullmatch(asked)
        if match is not None:
            found = next(match[name] for name in names if match[name])
            return _DETERMINER.sub("", _TAIL.sub("", found))
    return None


def _statements(what: str) -> tuple[str, ...]:
    head = article(what)
    return f"{head}{what}", f"a photo of {head}{what}"


def _by_form(asked: str, choices: Sequence[str]) -> tuple[str, list[tuple[str, ...]], tuple[str, ...]]:
    if (match := _HOW_MANY.fullmatch(asked)) is not None:
        made = [_counted(choice, match["what"]) for choice in choices]
        return "how many", made, _fillers("two {}s")
    if (match := _COLOUR.fullmatch(asked)) is not None:
        what = match["what"]
        return "what colour", [(f"{article(choice)}{choice} {what}",) for choice in choices], _fillers("{a}{}")
    if (match := _DOING.fullmatch(asked)) is not None:
        who = _who(match["who"])
        return "doing", [(f"{article(who)}{who} {choice}", choice) for choice in choices], _fillers("{a}{}")
    if _WHERE.fullmatch(asked):
        made = [(choice if _PLACE.match(choice) else f"at the {choice}") for choice in choices]
        return "where", [(f"a photo taken {place}", place) for place in made], _fillers("a photo taken at the {}")
    return "open", [_statements(_DETERMINER.sub("", choice)) for choice in choices], _fillers("{a}{}")


def _who(said: str) -> str:
    """Return who does it, without an article; pronouns are persons, and "it" is an animal."""
    who = _THE.sub("", said)
    return {**_PRONOUNS, "it": "animal"}.get(who.lower(), who)


def _taken(asked: str) -> Taken | None:
    """Return what a question takes for granted; None where it names nothing, or where its statements say it."""
    if (match := _DOING.fullmatch(asked)) is not None:
        what = _who(match["who"])
    elif (match := _WHERE.fullmatch(asked)) is not None:
        what = _THE.sub("", match["who"])
        what = _PRONOUNS.get(what.lower(), what)
    else:
        return None
    if what.lower() in _NOTHING:
        return None
    words = _WORDS.get(what.lower(), (what,))
    fillers = _fillers("{a}{}")[::2]  # of these half tell as much at that level, in half the time
    return Taken(what, tuple(_statements(word) for word in words), fillers)


def _counted(number: str, what: str) -> tuple[str, ...]:
    """Return statements of so many; people are counted as men, women and children too, as captions name them."""
    texts = [f"{number} {_one(name) if number.lower() in _ONE else name}" for name in _KINDS.get(what.lower(), (what,))]
    return tuple(texts) if len(texts) > 1 else (texts[0], f"a photo of {texts[0]}")


def _one(what: str) -> str:
    """Return the singular of what is counted, as far as an ending tells."""
    return _PEOPLE.get(what.lower(), what[:-1] if what.endswith("s") and not what.endswith("ss") else what)


def _fillers(template: str) -> tuple[str, ...]:
    """Return the template with things of the vocabulary, evenly chosen, in it."""
    things = [label.name for label in default_labels().labels if label.group == "things"]
    step = max(len(things) // N_FILLERS, 1)
    made = (template.replace("{a}", article(thing)).replace("{}", thing) for thing in things[::step][:N_FILLERS])
    return tuple(text.replace("ss", "s") if text.endswith("ss") and template.endswith("s") else text for text in made)
