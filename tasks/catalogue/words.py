"""Words for data sets, `NAME[:SPLIT][+CORRUPTION:SEVERITY]`. Torch-free.

`mnist+fog:3` is a data set of its own, and that is its name in rows. A user's own corruption has
the start of its source's hash there, `digits+mine:rows@1a2b3c4d:3`: other code, other images.
"""

from typing import NamedTuple

SPLITS = ("train", "validation", "test")
SEVERITIES = range(1, 6)
ADVERSARIALS = "adversarials:"
_HASH = 8  # digits of a user's code


class Corruption(NamedTuple):
    """What is done to every image of a data set."""

    name: str  # of the catalogue, or a user's `package.module:function`
    severity: int
    sha256: str = ""  # start of the hash of a user's code

    @property
    def text(self) -> str:
        code = f"@{self.sha256}" if self.sha256 else ""
        return f"{self.name}{code}:{self.severity}"

    def of_code(self, sha256: str) -> "Corruption":
        return self._replace(sha256=sha256[:_HASH])


class Word(NamedTuple):
    """A data set as it is named."""

    base: str  # of the catalogue, npz:FILE, or as rows name a user's own
    split: str | None = None
    corruption: Corruption | None = None

    @property
    def name(self) -> str:
        """Without the split: as rows name it."""
        return self._replace(split=None).text

    @property
    def text(self) -> str:
        split = f":{self.split}" if self.split else ""
        done = f"+{self.corruption.text}" if self.corruption is not None else ""
        return f"{self.base}{split}{done}"



def word_of(text: str) -> Word:
    """Takes a word apart; whether there is such a data set or corruption is not asked.

    Raises:
        ValueError: It cannot be read, and why.
    """
    named, plus, rest = text.rpartition("+")
    if not plus or rest.endswith(".npz"):  # a `+` in the name of a file
        return Word(*_split_of(text))
    corrupted, _, number = rest.rpartition(":")
    code = ""
    if "@" in corrupted:
        corrupted, _, code = corrupted.partition("@")
    if not named or not corrupted or not number.isdecimal() or int(number) not in SEVERITIES:
        raise ValueError(
            f"{text!r}: a corrupted data set is NAME+CORRUPTION:SEVERITY with a severity from "
            f"{SEVERITIES[0]} to {SEVERITIES[-1]}, e.g. mnist+fog:3"
        )
    base, split = _split_of(named)
    if word_of(base).corruption is not None:
        raise ValueError(f"{text!r}: one corruption at a time")
    return Word(base, split, Corruption(corrupted, int(number), code))


def base_of(name: str) -> str:
    """The data set that a row's `dataset` is, or is a corruption of."""
    return word_of(name).base


def _split_of(text: str) -> tuple[str, str | None]:
    base, colon, last = text.rpartition(":")
    return (base, last) if colon and base and last in SPLITS else (text, None)


class Adversarials(NamedTuple):
    """A data set that an attack has made: its name in rows is `adversarials:<measurement>:<eps>`.

    Sample by sample those of the split that was attacked.
    """

    attack: str  # measurement
    eps: str  # as the artifacts name it: a number, or `min_norm`

    @property
    def name(self) -> str:
        return f"{ADVERSARIALS}{self.attack}:{self.eps}"


def adversarials_of(name: str) -> Adversarials | None:
    """What a row's `dataset` is, if an attack has made it."""
    if not name.startswith(ADVERSARIALS):
        return None
    attack, _, eps = name.removeprefix(ADVERSARIALS).rpartition(":")
    return Adversarials(attack, eps)


def eps_name(eps: float | None) -> str:
    """Of the adversarials of one eps, in artifacts and in sources of predictions."""
    return "min_norm" if eps is None else repr(eps)
