"""Draw simple pictures, and write down what each shows: a thing of some colour in some place.

    python scripts/draw_demo_pictures.py FOLDER CAPTIONS.csv

They are drawings, not photographs, made here by the rules below, the same at every run; whoever wants may use them as
CC0. The demo needs them because a verdict takes at least 100 pictures, and captions, to be calibrated well.
"""

import csv
import math
import sys
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE, HORIZON = 384, 230
COPIES = 2
SKY = {
    "day": ((110, 170, 235), (205, 230, 250)),
    "sunset": ((90, 50, 110), (250, 150, 80)),
    "night": ((8, 10, 40), (30, 40, 90)),
    "wall": ((215, 205, 185), (200, 190, 170)),
}
GROUND = {
    "grass": ((70, 140, 50), (110, 180, 70)),
    "snow": ((225, 232, 240), (250, 252, 255)),
    "sand": ((215, 185, 130), (240, 215, 165)),
    "water": ((20, 70, 130), (60, 130, 180)),
    "road": ((70, 70, 75), (110, 110, 115)),
    "table": ((120, 75, 45), (160, 105, 65)),
    "sky": ((205, 230, 250), (225, 240, 252)),
    "wall": ((200, 190, 170), (190, 178, 158)),
}
COLOURS = {
    "red": (205, 35, 35),
    "blue": (40, 80, 200),
    "yellow": (240, 205, 50),
    "green": (40, 150, 60),
    "white": (240, 240, 240),
    "brown": (120, 75, 40),
    "black": (30, 30, 30),
    "orange": (240, 130, 30),
    "pink": (240, 140, 170),
    "purple": (120, 60, 160),
}


class Pen:
    """Draws in units of a thing's size, from the middle of its foot; y points up."""

    def __init__(self, image, x, y, size):
        self.draw, self.x, self.y, self.size = ImageDraw.Draw(image), x, y, size

    def at(self, *points):
        return [(self.x + self.size * a, self.y - self.size * b) for a, b in points]

    def shape(self, colour, *points):
        self.draw.polygon(self.at(*points), fill=colour)

    def box(self, colour, left, bottom, right, top):
        self.draw.rectangle([*self.at((left, top))[0], *self.at((right, bottom))[0]], fill=colour)

    def disc(self, colour, x, y, wide, high=None, outline=None):
        high = wide if high is None else high
        box = [*self.at((x - wide, y + high))[0], *self.at((x + wide, y - high))[0]]
        self.draw.ellipse(box, fill=colour, outline=outline)

    def line(self, colour, width, *points):
        self.draw.line(self.at(*points), fill=colour, width=max(int(width * self.size), 2), joint="curve")

    def pie(self, colour, x, y, r, start, end):
        self.draw.pieslice([*self.at((x - r, y + r))[0], *self.at((x + r, y - r))[0]], start, end, fill=colour)


def light(colour, by=60):
    return tuple(min(255, max(0, part + by)) for part in colour)


def ball(pen, c):
    pen.disc(c, 0, 0.8, 0.8)
    pen.disc(light(c), -0.3, 1.1, 0.2)


def house(pen, c):
    pen.box(c, -1, 0, 1, 1.2)
    pen.shape((90, 50, 40), (-1.2, 1.2), (1.2, 1.2), (0, 2.1))
    pen.box((70, 40, 25), -0.2, 0, 0.2, 0.7)
    for x in (-0.65, 0.65):
        pen.box((190, 220, 240), x - 0.18, 0.5, x + 0.18, 0.95)


def car(pen, c):
    pen.box(c, -1.4, 0.25, 1.4, 0.85)
    pen.shape(c, (-0.9, 0.85), (-0.55, 1.4), (0.55, 1.4), (0.95, 0.85))
    pen.shape((185, 215, 235), (-0.72, 0.88), (-0.48, 1.3), (-0.05, 1.3), (-0.05, 0.88))
    pen.shape((185, 215, 235), (0.05, 0.88), (0.05, 1.3), (0.48, 1.3), (0.75, 0.88))
    for x in (-0.8, 0.8):
        pen.disc((20, 20, 20), x, 0.25, 0.32)
        pen.disc((170, 170, 170), x, 0.25, 0.14)


def balloon(pen, c):
    pen.line((60, 60, 60), 0.03, (0, 1.3), (0.1, 0.6), (0, 0))
    pen.disc(c, 0, 2.1, 0.7, 0.85)
    pen.shape(c, (-0.12, 1.15), (0.12, 1.15), (0, 1.35))
    pen.disc(light(c), -0.25, 2.45, 0.14, 0.2)


def snowman(pen, c):
    for y, r in ((0.65, 0.7), (1.6, 0.5), (2.3, 0.36)):
        pen.disc((250, 250, 252), 0, y, r, outline=(170, 180, 195))
    pen.shape((240, 130, 30), (0, 2.36), (0.45, 2.28), (0, 2.22))
    pen.box(c, -0.42, 1.92, 0.42, 2.06)
    pen.box((30, 30, 30), -0.4, 2.58, 0.4, 2.66)
    pen.box((30, 30, 30), -0.25, 2.6, 0.25, 3.0)
    for x in (-0.12, 0.12):
        pen.disc((20, 20, 20), x, 2.42, 0.04)


def umbrella(pen, c):
    pen.line((70, 50, 40), 0.07, (0, 0), (0, 1.8))
    for number in range(6):
        pen.pie(c if number % 2 else light(c, 45), 0, 1.5, 1.1, 180 + 30 * number, 210 + 30 * number)


def cup(pen, c):
    pen.disc(c, 0.85, 0.65, 0.45)
    pen.disc((150, 110, 80), 0.85, 0.65, 0.25)
    pen.box(c, -0.8, 0.1, 0.8, 1.3)
    pen.disc(c, 0, 0.1, 0.8, 0.18)
    pen.disc(light(c, 30), 0, 1.3, 0.8, 0.2)
    pen.disc((60, 35, 20), 0, 1.3, 0.68, 0.15)


def sailboat(pen, c):
    pen.shape((110, 65, 35), (-1.3, 0.45), (1.3, 0.45), (0.9, 0), (-0.9, 0))
    pen.line((60, 40, 30), 0.05, (0, 0.45), (0, 2.6))
    pen.shape(c, (0.08, 2.5), (0.08, 0.6), (1.15, 0.6))
    pen.shape(light(c, 40), (-0.08, 2.2), (-0.08, 0.6), (-0.8, 0.6))


def flower(pen, c):
    for shift, high in ((-0.9, 1.3), (0, 1.7), (0.9, 1.2)):
        pen.line((40, 120, 40), 0.08, (shift, 0), (shift, high))
        for number in range(9):
            angle = number * math.tau / 9
            pen.disc(c, shift + 0.3 * math.cos(angle), high + 0.3 * math.sin(angle), 0.16)
        pen.disc((245, 205, 60), shift, high, 0.19)


def clock(pen, c):
    pen.disc(c, 0, 1.1, 1.1)
    pen.disc((250, 250, 245), 0, 1.1, 0.92)
    for number in range(12):
        angle = number * math.tau / 12
        pen.disc((30, 30, 30), 0.75 * math.cos(angle), 1.1 + 0.75 * math.sin(angle), 0.06)
    pen.line((30, 30, 30), 0.08, (0, 1.1), (0, 1.65))
    pen.line((30, 30, 30), 0.08, (0, 1.1), (0.4, 0.9))


THINGS = {  # what draws it; behind it and below it; how one says so
    "ball": (ball, "day", "grass", "on the green grass"),
    "house": (house, "night", "grass", "under a dark sky at night"),
    "car": (car, "day", "road", "on a road in the city"),
    "balloon": (balloon, "day", "sky", "high up in the blue sky"),
    "snowman": (snowman, "day", "snow", "in the white snow"),
    "umbrella": (umbrella, "sunset", "sand", "on a sandy beach at sunset"),
    "cup": (cup, "wall", "table", "on a wooden table"),
    "sailboat": (sailboat, "day", "water", "on the blue water"),
    "flower": (flower, "day", "grass", "in a garden on a sunny day"),
    "clock": (clock, "wall", "wall", "on the wall of a room"),
}
SENTENCES = (
    "a {colour} {thing} {place}",
    "there is a {colour} {thing} {place}",
    "a drawing of a {colour} {thing} {place}",
)


def background(sky, ground, rng):
    def slope(ends, height):
        steps = np.linspace(0, 1, height)[:, None, None]
        return (np.array(ends[0]) * (1 - steps) + np.array(ends[1]) * steps) * np.ones((1, SIDE, 1))

    pixels = np.concatenate([slope(SKY[sky], HORIZON), slope(GROUND[ground], SIDE - HORIZON)])
    return Image.fromarray((pixels + rng.normal(0, 5, pixels.shape)).clip(0, 255).astype(np.uint8))


def picture(thing, colour, rng):
    """Return one drawing; where the thing stands and how large it is differs from picture to picture."""
    draw, sky, ground, _ = THINGS[thing]
    image = background(sky, ground, rng)
    pen = Pen(image, rng.uniform(150, SIDE - 150), rng.uniform(HORIZON + 55, SIDE - 30), rng.uniform(75, 105))
    draw(pen, COLOURS[colour])
    return image.filter(ImageFilter.GaussianBlur(0.8))


def main(folder, table):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows = []
    for thing, colour, number in product(THINGS, COLOURS, range(COPIES)):
        name = f"{colour}-{thing}-{number + 1}.jpg"
        picture(thing, colour, rng).save(folder / name, quality=90)
        wording = SENTENCES[len(rows) % len(SENTENCES)]
        rows.append((name, wording.format(colour=colour, thing=thing, place=THINGS[thing][3])))
    with open(table, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *rows])
    print(f"{len(rows)} drawings in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
