"""A sentence made of tags: what is to be seen, what happens, where, and in what manner it is shown.

    dog, ball | running | beach | black and white photograph
    "a black and white photograph of a dog and a ball, running, at a beach"

It says no more than the tags do: who does what to whom is not in them.
"""

from collections.abc import Sequence

from clipsearch.describe.labels import article

MOST = {"things": 3, "activities": 1, "scenes": 1, "styles": 1}
_SURFACES = (
    "beach",
    "street",
    "road",
    "mountain",
    "hill",
    "stage",
    "lawn",
    "pitch",
    "court",
    "path",
    "track",
    "pier",
    "island",
)
_WITHIN = (
    "sky",
    "snow",
    "forest",
    "room",
    "kitchen",
    "garden",
    "park",
    "desert",
    "field",
    "meadow",
    "water",
    "city",
    "rain",
    "fog",
)


def compose(tags: Sequence[tuple[str, str]]) -> str | None:
    """Return a description made of tags, the surest first; None where there is none to make it of.

    Args:
        tags: (label, group), group one of "things", "scenes", "activities", "styles".
    """
    by_group = {group: [name for name, its in tags if its == group][:most] for group, most in MOST.items()}
    things = _joined([article(name) + name for name in _distinct(by_group["things"])])
    style = next(iter(by_group["styles"]), None)
    parts = [things] if things else []
    parts += by_group["activities"]
    parts += [_placed(scene) for scene in by_group["scenes"]]
    if not parts:
        return f"{article(style)}{style}" if style else None
    sentence = ", ".join(parts)
    return f"{article(style)}{style} of {sentence}" if style and things else sentence


def _distinct(names: Sequence[str]) -> list[str]:
    """Leave out what a longer name says already: no "dog" beside "guide dog"."""
    return [name for name in names if not any(name != other and name in other.split() for other in names)]


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def _placed(scene: str) -> str:
    last = scene.split()[-1]
    word = "on" if last in _SURFACES else "in" if last in _WITHIN else "at"
    return f"{word} {article(scene)}{scene}"
