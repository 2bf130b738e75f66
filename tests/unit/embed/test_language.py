"""Telling a query that the model does not understand, without crying wolf on English."""

import pytest

from clipsearch.embed.base import covers_text
from clipsearch.embed.card import EncoderCard

ENGLISH = EncoderCard("english", "open_clip", languages=("en",))
COVERED = """
cafe
die
die cut paper
a la carte
Zürich street
Zürich tram
El Niño
café au lait
crème brûlée
a plate of jalapeño poppers
Rio de la Plata at sunset
la la land
Vincent van Gogh
Leonardo da Vinci
Place de
MIT campus
Las Vegas
Los Angeles
Des Moines
kind man
a man on a boom
de Havilland aircraft
New York
sunset
dog
red bicycle
São Paulo
Ångström
Beyoncé concert
hot dog
pain
gift wrapping
fast food
sale
taco
son
2024
!!!
???
IMG_1234.jpg
rouge lipstick
Notre Dame
Côte d'Azur
Den Haag
a dog named Hund
schnauzer
two dogs running through the snow
α particle detector
naïve art
o'clock
""".strip().splitlines()
NOT_COVERED = """
собака на снегу
犬
雪の中の犬
一只狗在雪地里奔跑
강아지
كلب في الثلج
σκύλος στο χιόνι
कुत्ता
สุนัข
ein Hund läuft auf der Wiese
Hund
Hunde im Schnee
Sonnenuntergang über dem Meer
rotes Fahrrad vor dem Haus
das Mädchen mit dem Ball
un chien dans la neige
chien
deux enfants sur la plage
une femme avec un vélo
un perro en la nieve
perro
los niños en la playa
un cane e un gatto
bambini sulla spiaggia
un cachorro na praia
uma mulher com um guarda-chuva
hond
een hond op het strand
kinderen spelen met een bal in de sneeuw
""".strip().splitlines()


@pytest.mark.parametrize("text", COVERED)
def test_english_and_what_looks_like_it_is_covered(text):
    assert covers_text(ENGLISH, text)


@pytest.mark.parametrize("text", NOT_COVERED)
def test_another_language_is_noticed(text):
    assert not covers_text(ENGLISH, text)


@pytest.mark.parametrize("languages", [("multi",), ("en", "multi"), ()])
def test_a_multilingual_or_unknown_model_is_never_doubted(languages):
    assert all(covers_text(EncoderCard("x", "open_clip", languages=languages), text) for text in NOT_COVERED)


def test_a_card_of_other_languages_is_judged_by_its_own_scripts():
    card = EncoderCard("x", "open_clip", languages=("en", "ru"))
    assert covers_text(card, "собака на снегу")
    assert covers_text(card, "a dog")
    assert not covers_text(card, "雪の中の犬")


def test_odd_characters_raise_nothing():
    assert covers_text(ENGLISH, "\udcff\x00\U0001f600 e\u0301")
    assert covers_text(ENGLISH, "")
