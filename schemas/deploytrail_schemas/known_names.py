"""Names of people that are known, wherever a text says them: one look at its words, however many names there are. Pure.

A name is said by its words one after the other: `ada.lovelace@example.com` also as `ada.lovelace`, `Ada Lovelace`,
`Lovelace, Ada`, `ada-lovelace` and `AdaLovelace`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Set
from itertools import pairwise
from typing import TypeAlias

from deploytrail_schemas.people import person

_WORD = re.compile(r"[^\W_]+")
# Vowels and the like that stand on, under or beside a letter are no letters to `re`, and do not end a word.
_MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0903"
    "\u093a-\u094f\u0951-\u0957\u0962\u0963\u0981-\u0983\u09bc-\u09d7\u0a01-\u0a03\u0a3c-\u0a51\u0a70\u0a71\u0a81-\u0a83"
    "\u0abc-\u0acd\u0b01-\u0b03\u0b3c-\u0b57\u0b82\u0bbe-\u0bcd\u0c00-\u0c04\u0c3c-\u0c56\u0c81-\u0c83\u0cbc-\u0cd6"
    "\u0d00-\u0d03\u0d3b-\u0d4d\u0d57\u0d81-\u0d83\u0dca-\u0ddf\u0e31-\u0e3a\u0e47-\u0e4e\u0eb1-\u0ebc\u0ec8-\u0ece"
    "\u0f71-\u0f84\u102b-\u103e\u1056-\u1059\u17b4-\u17d3\u3099\u309a"
)
_WORD_WITH_MARKS = re.compile(rf"(?:[^\W_]|[{_MARKS}])+")
_DOT_OF_A_CAPITAL_I = "\u0307"  # what is left of the Turkish one once its case is folded
# What stands between two words of a name.
_BETWEEN = re.compile(r"[\s._,+@<>\"'\\/-]{1,3}")
_DISPLAYED = re.compile(r"\s*(.*?)\s*<[^<>]+>\s*")
_Said: TypeAlias = "tuple[tuple[str, ...], str, bool]"  # words, what stands in their place, is it a name of one word
SHORTEST = 3  # letters of a name that is looked for in texts
_LEAST_JOINED = 6
_MOST_SEEN, _LONGEST_SEEN = 8192, 256
# What accounts of nobody in particular are called: as words of texts they mean something else.
ROLES = frozenset(
    """
    account admin administrator agent anonymous api app argocd automation bot build builder cd ci daemon default deploy
    deployer deployment dev developer devops email error failed github gitlab guest hello info jenkins mail main master
    me nobody none noreply oncall operations operator ops owner person pipeline platform prod production release root
    runner script security service sre staff staging started succeeded support svc sys system team test tester the
    ubuntu unknown user vagrant web webmaster www
    """.split()  # noqa: SIM905  # a list of eighty lines says no more
)


class KnownNames:
    """The names that are looked for, each with what stands in its place."""

    def __init__(self) -> None:
        self._by_first: dict[str, list[_Said]] = {}
        self._none_in: set[str] = set()  # texts of late without a name

    def add(self, name: str, instead: str) -> None:
        """Look for a name from now on. Where two people are said by the same words, the first who was added counts."""
        for words, is_word in _said_as(name):
            known = self._by_first.setdefault(words[0], [])
            if all(said[0] != words for said in known):
                known.append((words, instead, is_word))
                known.sort(key=_length, reverse=True)  # the longest first: an address goes as a whole
        self._none_in.clear()

    def may_be_in(self, texts: Iterable[str]) -> bool:
        """Whether one of the texts has a word with which a name begins: where none has, they say no name."""
        unseen = [text for text in texts if text not in self._none_in]
        if not unseen:
            return False
        if not self._by_first.keys().isdisjoint(_words("\n".join(unseen))):
            return True
        # Services, repositories and the like stand in every event.
        if len(self._none_in) > _MOST_SEEN:
            self._none_in.clear()
        self._none_in.update(text for text in unseen if len(text) <= _LONGEST_SEEN)
        return False

    def replaced(self, text: str, *, spared: Set[str] = frozenset(), of_several_words: bool = False) -> str:
        """A text with no known name in it. `spared`: words that are no names of their own here; `of_several_words`:
        only names of two words and more are looked for."""
        if not self.may_be_in((text,)):
            return text
        text = unicodedata.normalize("NFC", text)
        found = list((_WORD if text.isascii() else _WORD_WITH_MARKS).finditer(text))
        words = [_folded(match[0]) for match in found]
        parts, done, at = [], 0, 0
        while at < len(words):
            for name, instead, is_word in self._by_first.get(words[at], ()):
                behind = at + len(name)
                means_else = is_word and (of_several_words or name[0] in spared)
                if means_else or tuple(words[at:behind]) != name or not _is_one(text, found[at:behind]):
                    continue
                parts += [text[done : found[at].start()], instead]
                done, at = found[behind - 1].end(), behind
                break
            else:
                at += 1
        return "".join((*parts, text[done:]))


def words_of(texts: Iterable[str]) -> frozenset[str]:
    """The words of texts, as names are compared by them."""
    return frozenset(word for text in texts for word in _words(text))


def _words(text: str) -> list[str]:
    if text.isascii():
        return _WORD.findall(text.casefold())
    # Word by word: a letter may be several, or none, once its case is folded.
    return [_folded(word) for word in _WORD_WITH_MARKS.findall(unicodedata.normalize("NFC", text))]


def _folded(word: str) -> str:
    return word.casefold().replace(_DOT_OF_A_CAPITAL_I, "")


def _is_one(text: str, words: list[re.Match[str]]) -> bool:
    """Whether nothing stands between words but what stands within a name."""
    return all(_BETWEEN.fullmatch(text, a.end(), b.start()) for a, b in pairwise(words))


def _length(said: _Said) -> int:
    return len(said[0])


def _said_as(name: str) -> Iterator[tuple[tuple[str, ...], bool]]:
    """The words by which somebody is said, and whether that is a name of one word."""
    mailbox = person(name)
    local = mailbox.split("@")[0].rpartition("\\")[2]
    displayed = _DISPLAYED.fullmatch(name)
    usual = [displayed[1] if displayed else "", local, local.split("+")[0]]
    for text in dict.fromkeys((name, mailbox, *usual)):
        words = tuple(_words(text))
        letters = sum(not letter.isdigit() for word in words for letter in word)
        # Two signs are a whole name in Chinese.
        if letters < (SHORTEST if text.isascii() else SHORTEST - 1) or (len(words) == 1 and words[0] in ROLES):
            continue
        yield words, len(words) == 1
        if text in usual and len(words) > 1 and not any(word.isdigit() for word in words):
            joined = "".join(words)
            if len(joined) >= _LEAST_JOINED:
                yield (joined,), False
            if len(words) == 2:
                yield words[::-1], False
