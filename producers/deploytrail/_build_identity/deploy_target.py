"""Whether two names mean one environment, so that `prod` and `production` raise no alarm.

Names are compared word by word, in lower case: words are what letters and digits make, the usual
abbreviations are spelled out, and `pre` and `non` belong to the word behind them. One name may say
more than the other (`prod-east` and `production`), not something else (`prod-east` and `prod-west`).
"""

from __future__ import annotations

_MEANS = {
    "production": ("prod", "prd", "live"),
    "staging": ("stage", "stg", "stag"),
    "development": ("dev", "devel", "develop"),
    "testing": ("test", "tst"),
    "preproduction": ("preprod", "preprd"),
    "nonproduction": ("nonprod", "nonprd"),
    "acceptance": ("uat", "acc", "accept"),
    "qa": ("quality",),
    "sandbox": ("sbx",),
}
_SPELLED = {short: word for word, shorts in _MEANS.items() for short in shorts}


def agree(one: str, other: str) -> bool:
    """Whether both may name the same environment."""
    a, b = _words(one), _words(other)
    return not a or not b or a <= b or b <= a


def _words(name: str) -> frozenset[str]:
    text = "".join(letter if letter.isalnum() else " " for letter in name.lower())
    words: list[str] = []
    for word in text.split():
        if words and words[-1] in {"pre", "non"}:
            word = words.pop() + word
        words.append(word)
    return frozenset(_SPELLED.get(word, word) for word in words)
