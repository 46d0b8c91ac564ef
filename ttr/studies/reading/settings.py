"""What a reader study asks, of whom, and how images are shown, as data."""

from __future__ import annotations

from dataclasses import dataclass

from ttr.checks import integer, names, register_counts
from ttr.errors import OptionError
from ttr.registers.variants import ALGORITHM, Variant, check_variant

#: How an image may be shown: alone, with the bare model's map, with the map after test-time registers.
NONE, BEFORE, AFTER = "none", "before", "after"
CONDITIONS = (NONE, BEFORE, AFTER)
#: Readers, answers and characters of a text, at most.
MOST_READERS, MOST_ANSWERS, MOST_TEXT = 60, 6, 200
#: Grades of trust in a map, and of confidence in an answer.
TRUST, CONFIDENCE = range(1, 6), range(101)


@dataclass(frozen=True)
class ReadingSettings:
    """What a reader study asks.

    Attributes:
        question: asked of every image.
        answers: to choose from, 2..6; of two the first is the positive one.
        conditions: of :data:`CONDITIONS`; each reader reads each image in each of them, in as many sessions.
        readers: how many there are.
        catch: share of the images that are shown once more with a map that is not theirs, 0..0.5.
        repeats: share that is shown once more as it was: do readers agree with themselves? 0..0.5.
        pairs: whether both maps are held against each other at the end of the last session, as A and B.
        washout: days that should lie between two sessions.
        num_registers: R >= 1 of the map after.
        variant: how the neurons are moved, see :mod:`ttr.registers.variants`.

    Raises:
        OptionError: a value is outside its range.
    """

    question: str = "Is there a finding?"
    answers: tuple[str, ...] = ("yes", "no")
    conditions: tuple[str, ...] = CONDITIONS
    readers: int = 6
    catch: float = 0.1
    repeats: float = 0.1
    pairs: bool = True
    washout: int = 14
    num_registers: int = 1
    variant: Variant = ALGORITHM

    def __post_init__(self) -> None:
        if not self.question.strip() or len(self.question) > MOST_TEXT:
            raise OptionError(
                f"got a question of {len(self.question.strip())} characters; needed 1 to {MOST_TEXT}"
            )
        said, given = ", ".join(map(repr, self.answers)), {answer.strip() for answer in self.answers}
        sound = len(given) == len(self.answers) and all(0 < len(each) <= MOST_TEXT for each in given)
        if not sound or not 2 <= len(self.answers) <= MOST_ANSWERS:
            raise OptionError(
                f"got the answers {said}; needed 2 to {MOST_ANSWERS} different ones, such as yes,no"
            )
        names("conditions", self.conditions, CONDITIONS)
        integer("readers", self.readers, 1)
        if self.readers > MOST_READERS:
            raise OptionError(f"readers={self.readers}; needed {MOST_READERS} at most")
        for what in ("catch", "repeats"):
            if not 0 <= getattr(self, what) <= 0.5:
                raise OptionError(f"{what}={getattr(self, what):g}; needed a share from 0 to 0.5")
        integer("washout", self.washout, 0)
        register_counts([self.num_registers], 1)
        check_variant(self.variant)
