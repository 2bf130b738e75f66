"""Does a model know the language of a query? Told from script and words, without a model of its own.

A model trained on English captions answers a Russian query with noise that looks like an answer, so a person should
be told. Two tests, both leaning towards silence, since a false alarm on good English is worse than none on Italian:

1. *Script*: most letters are of a script that the card's languages do not use.
2. *Words*, for English cards: several function words of one other Latin-script language, or one of its everyday nouns,
   and no English function word at all. Words that are English too ("die", "kind", "on") count for nothing.
"""

import re
import unicodedata

from clipsearch.embed.card import EncoderCard

# Script as the first word of a letter's Unicode name. Languages that are not listed use Latin letters.
_SCRIPTS = {
    "ar": ("ARABIC",),
    "bg": ("CYRILLIC",),
    "el": ("GREEK",),
    "fa": ("ARABIC",),
    "he": ("HEBREW",),
    "hi": ("DEVANAGARI",),
    "ja": ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"),
    "ko": ("HANGUL", "CJK"),
    "ru": ("CYRILLIC",),
    "th": ("THAI",),
    "uk": ("CYRILLIC",),
    "zh": ("CJK",),
}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ENGLISH = _words(
    """the of and to with at is are by from for this that an its his her their under over near behind between
    inside outside without wearing holding sitting standing some two three my your our not it who which into
    old new young black white red blue green yellow man woman girl boy dog cat people street"""
)
# Function words that no English caption has, by language; "la", "de", "van" occur in names and so count one, not two.
_FUNCTION_WORDS = {
    "de": "der das den dem des ein eine einer einem einen und ist mit auf im am vom zum zur bei nicht neben vor unter "
    "über für aus nach hinter zwischen sich wird",
    "fr": "le la les un une des du de et est avec dans sur sous aux devant derrière qui chez très au près sans dans",
    "es": "el la los las un una unos unas y de del con en sobre es para por muy junto detrás sin al que",
    "it": "il lo la gli le un una uno di del della dei delle nel nella con sul sulla per che è molto accanto dietro",
    "pt": "o os um uma uns umas e de da dos das com em na no nas nos ao à para por muito sobre atrás perto",
    "nl": "de het een en van met op aan bij naar voor achter onder naast zijn niet uit naar tussen",
}
# Everyday nouns of photographs that are words of no English caption.
_NOUNS = {
    "de": "hund hunde katze katzen kinder mann frau mädchen junge haus häuser baum bäume blume blumen wald schnee meer "
    "himmel straße fahrrad pferd vogel sonnenuntergang berge",
    "fr": "chien chiens enfant enfants homme femme fille garçon maison plage arbre arbres fleur fleurs neige ciel rue "
    "vélo cheval oiseau voiture montagne bateau",
    "es": "perro perros gato gatos niña niños mujer hombre playa árbol flores montaña nieve cielo calle bicicleta "
    "caballo pájaro coche",
    "it": "gatto gatti bambino bambina bambini donna uomo spiaggia albero fiore fiori montagna cielo bicicletta "
    "cavallo uccello macchina",
    "pt": "cachorro cão criança crianças mulher homem praia árvore flores montanha céu cavalo pássaro carro menina",
    "nl": "hond honden katten kinderen vrouw meisje jongen huis bomen bloem bloemen sneeuw straat fiets paard vogel",
}
_SHARED = _words("die in on an am was her man kind boom rue un no e o y do as a le per para al en the des")
_WORD_LISTS = {
    language: (_words(words) - _ENGLISH - _SHARED, _words(_NOUNS[language]) - _ENGLISH - _SHARED)
    for language, words in _FUNCTION_WORDS.items()
}
# Words with accents that English took over: they say nothing about the language.
_LOANWORDS = _words(
    """café cafés crème brûlée naïve façade piñata jalapeño jalapeños niño niña fiancé fiancée résumé décor entrée
    cliché déjà vu pâté soufflé sauté purée piña señor señorita doppelgänger über à"""
)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def covers_text(card: EncoderCard, text: str) -> bool:
    """Say whether the text is in a language of the card, as far as one can tell; in doubt, True."""
    if not card.languages or "multi" in card.languages:
        return True
    scripts = {script for language in card.languages for script in _SCRIPTS.get(language, ("LATIN",))}
    if not _in_scripts(text, scripts):
        return False
    return card.languages != ("en",) or other_latin_language(text) is None


def other_latin_language(text: str) -> str | None:
    """Return the language (ISO 639-1) that a text in Latin letters is plainly in, or None: English, or no telling."""
    words = _WORD.findall(unicodedata.normalize("NFC", text).lower())
    if _ENGLISH.intersection(words):
        return None
    accents = sum(not word.isascii() and word not in _LOANWORDS for word in words)
    best, evidence = None, 0
    for language, (function_words, nouns) in _WORD_LISTS.items():
        functions = len(function_words.intersection(words))
        # An accent is evidence only beside a function word: "Zürich tram" is English.
        found = functions + 2 * len(nouns.intersection(words)) + (min(accents, 1) if functions else 0)
        if found > evidence:
            best, evidence = language, found
    return best if evidence >= 2 and evidence >= 0.4 * len(words) else None


def _in_scripts(text: str, scripts: set[str]) -> bool:
    """Say whether at least half of the letters are of the scripts; True without letters."""
    if text.isascii() and "LATIN" in scripts:
        return True
    letters = [unicodedata.name(character, "").split(" ")[0] for character in text if character.isalpha()]
    # Fullwidth Latin ("ＡＢＣ") is Latin to a reader; to a tokenizer it is near enough.
    known = sum(script in scripts or (script == "FULLWIDTH" and "LATIN" in scripts) for script in letters)
    return 2 * known >= len(letters)
