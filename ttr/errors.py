"""The few ways in which ttr refuses, each a sentence for the person who asked.

A message says what was given, what was needed, and what to do next. The command line prints it on one
line and exits with status 2; a library caller catches :class:`TTRError` or one of its kinds.
"""

#: Characters of a word, and of a sentence, that are shown; what a file says of itself may be longer.
WORD, SENTENCE = 400, 1500


class TTRError(Exception):
    """Base of every refusal that ttr makes on purpose.

    A file's own words may stand in one. So it is shown on one line, without characters that move the cursor
    or turn the text, and cut where it is longer than anybody reads.
    """

    def __str__(self) -> str:
        shown = "".join(each if each.isprintable() else " " for each in super().__str__())
        return _cut(" ".join(_cut(word, WORD) for word in shown.split()), SENTENCE)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most // 2) :]}"


class ModelError(TTRError):
    """The model, its family or its weights are not what the task needs."""


class NeuronsError(TTRError):
    """A register-neuron set is malformed or does not belong to this backbone."""


class ImageError(TTRError):
    """An image or a folder of images cannot be used."""


class ImageWarning(UserWarning):
    """An image is not shown as its file says, and why."""


class DataError(TTRError):
    """A labelled set is not laid out, labelled or split as it must be."""


class OptionError(TTRError, ValueError):
    """An argument has a value outside its range."""


class OutputError(TTRError):
    """The place to write to cannot be used."""


class ArchiveError(TTRError):
    """An image archive cannot be reached, refuses, or answers with something else than it must."""
