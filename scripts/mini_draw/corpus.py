"""The corpus: single things of an emoji font on backgrounds of one colour, with exact captions.

Everything is rendered from Noto Color Emoji (SIL Open Font License 1.1; Debian's ``fonts-noto-color-emoji``), so that
the truth of each picture is known and nothing but a font is needed to make it again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SIDE = 64  # pixels of a picture
GLYPH = 54  # of these, the longer side of the thing
FONT_SIZE = 109  # the only size that the font's bitmaps have

OBJECTS = dict(
    line.rsplit(" ", 1)
    for line in """dog 🐕|cat 🐈|horse 🐎|cow 🐄|pig 🐖|sheep 🐑|elephant 🐘|lion 🦁|tiger 🐅|bear 🐻|panda 🐼|monkey 🐒
rabbit 🐇|mouse 🐁|frog 🐸|snake 🐍|turtle 🐢|fish 🐟|whale 🐳|octopus 🐙|crab 🦀|snail 🐌|butterfly 🦋
bee 🐝|ladybug 🐞|owl 🦉|duck 🦆|penguin 🐧|chicken 🐔|camel 🐫|giraffe 🦒|crocodile 🐊|fox 🦊|tree 🌳
palm tree 🌴|cactus 🌵|sunflower 🌻|rose 🌹|mushroom 🍄|maple leaf 🍁|apple 🍎|banana 🍌
strawberry 🍓|grapes 🍇|watermelon 🍉|lemon 🍋|pineapple 🍍|cherries 🍒|carrot 🥕|bread 🍞|cheese 🧀
pizza 🍕|hamburger 🍔|birthday cake 🎂|ice cream 🍦|cookie 🍪|cup of coffee ☕|glass of beer 🍺
car 🚗|bus 🚌|truck 🚚|bicycle 🚲|motorcycle 🏍|train 🚂|airplane ✈|helicopter 🚁|rocket 🚀
sailboat ⛵|ship 🚢|tractor 🚜|house 🏠|castle 🏰|church ⛪|tent ⛺|sun 🌞|moon 🌙|star ⭐|rainbow 🌈
snowman ⛄|fire 🔥|mountain 🏔|umbrella ☂|soccer ball ⚽|basketball 🏀|guitar 🎸|drum 🥁|trumpet 🎺
alarm clock ⏰|book 📕|key 🔑|light bulb 💡|chair 🪑|bed 🛏|mobile phone 📱|camera 📷|laptop 💻
scissors ✂|hammer 🔨|crown 👑|top hat 🎩|glasses 👓|heart ❤|balloon 🎈|robot 🤖|pumpkin 🎃|bell 🔔""".replace(
        "\n", "|"
    ).split("|")
)
COLOURS = {
    "white": (255, 255, 255),
    "red": (214, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (248, 220, 60),
    "green": (60, 165, 75),
    "blue": (40, 95, 205),
    "purple": (130, 60, 165),
    "pink": (248, 165, 195),
    "brown": (120, 75, 40),
    "grey": (140, 140, 140),
    "black": (20, 20, 20),
}
PLAIN = ("{a}", "a photo of {a}", "{name}")  # no colour named: a white background
COLOURED = (
    "{a} on a {colour} background",
    "a photo of {a} on a {colour} background",
    "a {colour} background with {a}",
)
_NO_ARTICLE = {"grapes", "bread", "cheese", "pizza", "cherries", "scissors", "glasses", "fire"}


@dataclass(frozen=True)
class Scene:
    """A thing on a background: what a picture shows, and what its captions say."""

    name: str
    colour: str

    @property
    def held_out(self) -> bool:
        """Whether no training picture has this pair; one in ten, by a hash; never white, which has plain captions."""
        digest = hashlib.sha256(f"{self.name} on {self.colour}".encode()).digest()
        return self.colour != "white" and digest[0] % 10 == 0

    def captions(self) -> list[str]:
        """Return all captions, the coloured ones first."""
        filled = {"a": with_article(self.name), "name": self.name, "colour": self.colour}
        forms = COLOURED + (PLAIN if self.colour == "white" else ())
        return [form.format(**filled).replace("a orange", "an orange") for form in forms]


def with_article(name: str) -> str:
    """Return "an owl", "a dog", "grapes"."""
    if name in _NO_ARTICLE:
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def scenes() -> list[Scene]:
    """Return all pairs of a thing and a colour, the held-out ones included."""
    return [Scene(name, colour) for name in OBJECTS for colour in COLOURS]


def render_all(font: Path) -> NDArray[np.uint8]:
    """Render ``scenes()``, then all of them with the thing mirrored: uint8 (2N, 64, 64, 3)."""
    face = ImageFont.truetype(str(font), FONT_SIZE)
    glyphs = {name: _glyph(face, char) for name, char in OBJECTS.items()}
    plain = np.stack([_render(glyphs[scene.name], COLOURS[scene.colour]) for scene in scenes()])
    return np.concatenate([plain, plain[:, :, ::-1]])


def _glyph(face: ImageFont.FreeTypeFont, char: str) -> Image.Image:
    canvas = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(canvas).text((10, 10), char, font=face, embedded_color=True)
    box = canvas.getbbox()
    assert box is not None, f"the font has no {char!r}"
    cut = canvas.crop(box)
    scale = GLYPH / max(cut.size)
    return cut.resize((round(cut.width * scale), round(cut.height * scale)), Image.Resampling.LANCZOS)


def _render(glyph: Image.Image, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    picture = Image.new("RGBA", (SIDE, SIDE), (*colour, 255))
    picture.alpha_composite(glyph, ((SIDE - glyph.width) // 2, (SIDE - glyph.height) // 2))
    return np.asarray(picture.convert("RGB"))
