"""The text of a VNN-LIB file as nested lists, in which each word knows its line."""

import re
from typing import NamedTuple

from robsweep.tasks.errors import InputError

_TOKEN = re.compile(
    r"""(?P<space>[\s]+|;[^\n]*)
      | (?P<bracket>[()])
      | (?P<quoted>"(?:[^"]|"")*"|\|[^|]*\|)
      | (?P<word>(?:[^\s();"|\[\]]+(?:\[[^\]()\n]*\])?)|\[[^\]()\n]*\])""",
    re.VERBOSE,
)
_DEEPEST = 200  # brackets within brackets


class Word(NamedTuple):
    text: str
    line: int  # of the file, from 1


class Form(NamedTuple):
    """What is in a pair of brackets."""

    items: tuple["Word | Form", ...]
    line: int

    @property
    def head(self) -> str:
        """The first word, or nothing."""
        first = self.items[0] if self.items else None
        return first.text if isinstance(first, Word) else ""


def forms_of(text: str, file: str) -> list[Form]:
    """All forms of a file, in order.

    Raises:
        InputError: Brackets that do not match, or what is neither word nor form; with its line.
    """
    found: list[Form] = []
    open_ones: list[tuple[int, list[Word | Form]]] = []
    line = place = 1
    place = 0
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None:
            raise InputError(f"{file}: line {line}: syntax error at {text[place]!r}")
        match token.lastgroup, token[0]:
            case "space", _:
                pass
            case "bracket", "(":
                open_ones.append((line, []))
                if len(open_ones) > _DEEPEST:
                    raise InputError(f"{file}: line {line}: more than {_DEEPEST} nested brackets")
            case "bracket", _:
                if not open_ones:
                    raise InputError(f"{file}: line {line}: syntax error: a ) that closes nothing")
                began, items = open_ones.pop()
                form = Form(tuple(items), began)
                if open_ones:
                    open_ones[-1][1].append(form)
                else:
                    found.append(form)
            case _, word:
                if not open_ones:
                    raise InputError(f"{file}: line {line}: syntax error: {word!r} in no brackets")
                open_ones[-1][1].append(Word(word, line))
        line += token[0].count("\n")
        place = token.end()
    if open_ones:
        raise InputError(f"{file}: line {open_ones[0][0]}: syntax error: a ( that is never closed")
    return found
