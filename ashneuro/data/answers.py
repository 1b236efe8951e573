"""VQA accuracy: answers normalised and scored against those of ten people.

The rules are those of the official evaluation (``vqaEval.py`` of the VQA API): punctuation, number
words, articles, and missing apostrophes by its own table; a period stays only in front of a digit.
One difference: both sides are always normalised, while the official script skips this where all
people gave the same answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# fmt: off
_CONTRACTIONS = {
    "aint": "ain't", "arent": "aren't", "cant": "can't", "couldve": "could've", "couldnt": "couldn't",
    "couldn'tve": "couldn't've", "couldnt've": "couldn't've", "didnt": "didn't", "doesnt": "doesn't",
    "dont": "don't", "hadnt": "hadn't", "hadnt've": "hadn't've", "hadn'tve": "hadn't've", "hasnt": "hasn't",
    "havent": "haven't", "hed": "he'd", "hed've": "he'd've", "he'dve": "he'd've", "hes": "he's", "howd": "how'd",
    "howll": "how'll", "hows": "how's", "Id've": "I'd've", "I'dve": "I'd've", "Im": "I'm", "Ive": "I've",
    "isnt": "isn't", "itd": "it'd", "itd've": "it'd've", "it'dve": "it'd've", "itll": "it'll", "let's": "let's",
    "maam": "ma'am", "mightnt": "mightn't", "mightnt've": "mightn't've", "mightn'tve": "mightn't've",
    "mightve": "might've", "mustnt": "mustn't", "mustve": "must've", "neednt": "needn't", "notve": "not've",
    "oclock": "o'clock", "oughtnt": "oughtn't", "ow's'at": "'ow's'at", "'ows'at": "'ow's'at", "'ow'sat": "'ow's'at",
    "shant": "shan't", "shed've": "she'd've", "she'dve": "she'd've", "she's": "she's", "shouldve": "should've",
    "shouldnt": "shouldn't", "shouldnt've": "shouldn't've", "shouldn'tve": "shouldn't've",
    "somebody'd": "somebodyd", "somebodyd've": "somebody'd've", "somebody'dve": "somebody'd've",
    "somebodyll": "somebody'll", "somebodys": "somebody's", "someoned": "someone'd", "someoned've": "someone'd've",
    "someone'dve": "someone'd've", "someonell": "someone'll", "someones": "someone's", "somethingd": "something'd",
    "somethingd've": "something'd've", "something'dve": "something'd've", "somethingll": "something'll",
    "thats": "that's", "thered": "there'd", "thered've": "there'd've", "there'dve": "there'd've",
    "therere": "there're", "theres": "there's", "theyd": "they'd", "theyd've": "they'd've", "they'dve": "they'd've",
    "theyll": "they'll", "theyre": "they're", "theyve": "they've", "twas": "'twas", "wasnt": "wasn't",
    "wed've": "we'd've", "we'dve": "we'd've", "weve": "we've", "werent": "weren't", "whatll": "what'll",
    "whatre": "what're", "whats": "what's", "whatve": "what've", "whens": "when's", "whered": "where'd",
    "wheres": "where's", "whereve": "where've", "whod": "who'd", "whod've": "who'd've", "who'dve": "who'd've",
    "wholl": "who'll", "whos": "who's", "whove": "who've", "whyll": "why'll", "whyre": "why're", "whys": "why's",
    "wont": "won't", "wouldve": "would've", "wouldnt": "wouldn't", "wouldnt've": "wouldn't've",
    "wouldn'tve": "wouldn't've", "yall": "y'all", "yall'll": "y'all'll", "y'allll": "y'all'll",
    "yall'd've": "y'all'd've", "y'alld've": "y'all'd've", "y'all'dve": "y'all'd've", "youd": "you'd",
    "youd've": "you'd've", "you'dve": "you'd've", "youll": "you'll", "youre": "you're", "youve": "you've",
}
# fmt: on
_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_NUMBERS = {"none": "0", **{word: str(number) for number, word in enumerate(_WORDS)}}
_ARTICLES = {"a", "an", "the"}
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_PERIOD = re.compile(r"\.(?!\d)")
_COMMA = re.compile(r"(\d)(,)(\d)")


def normalise_answer(answer: str) -> str:
    """Return ``answer`` in the form that is compared: ``"The Dogs!"`` becomes ``"dogs"``."""
    text = answer.replace("\n", " ").replace("\t", " ").strip()
    numeric = _COMMA.search(text) is not None
    bare = text
    # The official rule: a mark disappears where it touches a space, or if a comma separates digits;
    # else it becomes a space.
    for mark in _PUNCTUATION:
        bare = bare.replace(mark, "" if numeric or f"{mark} " in text or f" {mark}" in text else " ")
    text = _PERIOD.sub("", bare)
    words = [_NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def soft_score(answer: str, given: Sequence[str]) -> float:
    """Return the VQA accuracy of ``answer`` against the answers ``given`` by n people (ten in VQA
    v2).

    ::

        accuracy = mean over the subsets that leave one person out of min(matches in it / k, 1)
        k        = min(3, n − 1)

    From four people on this is the official rule, k = 3. A subset of three people has only two, so
    that the answer of all three could not reach 1 with k = 3. With fewer people it is 1 if any of
    them matches, else 0.
    """
    matches = [normalise_answer(other) == normalise_answer(answer) for other in given]
    if len(matches) < 3:
        return float(any(matches))
    total, enough = sum(matches), min(3, len(matches) - 1)
    return sum(min((total - match) / enough, 1.0) for match in matches) / len(matches)
