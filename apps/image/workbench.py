"""The models behind the page: each loaded once, its register neurons at hand, one pass at a time.

Hooks belong to a model, not to a request, so a lock lets one pass run at a time; the page queues the others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ttr.analysis.reference import Reference
from ttr.apps.image.answers import Reader, fitting
from ttr.apps.image.case import Case, answer, cautions
from ttr.apps.image.handed_out import HandedOut
from ttr.apps.image.inspection import inspect, references_of
from ttr.apps.image.intake import Picture, sample
from ttr.apps.image.memory import Kept, Memory, value_of
from ttr.apps.image.uploads import ABSENT, content_of
from ttr.backbones import load
from ttr.backbones.base import Backbone
from ttr.backbones.catalog import preset_for
from ttr.backbones.phantoms.hybrid import HYBRIDS
from ttr.backbones.phantoms.names import OF_RANDOM_WEIGHTS
from ttr.datasets.registry import open_image, phantom_images, sample_paths
from ttr.errors import ImageError, NeuronsError, OptionError, TTRError
from ttr.registers.detection import detect
from ttr.registers.neurons import RegisterNeurons
from ttr.wording import counted

DEFAULT = "phantom"
PLANTED, PRESET, GIVEN = "planted (the phantom’s known truth)", "published preset", "given at start"
PHANTOMS_TO_DETECT_ON = 16
#: Choices of model and neurons whose references are kept.
REFERENCES = 8
References = tuple[RegisterNeurons, tuple[Reference | None, ...]]
#: Bytes of a file of register neurons.
MOST_OF_NEURONS = 64 * 2**20


@dataclass(frozen=True)
class Chosen:
    """A model with register neurons, as one visitor chose them.

    Attributes:
        model: its name.
        source: where the neurons come from, in words.
        neurons: the register neurons.
        caution: a sentence that must be shown with them, or "".
        num_registers: test-time registers; None: as many as the page was started with.
        beside: a second choice that is shown beside this one, or None.
    """

    model: str
    source: str
    neurons: RegisterNeurons = field(repr=False)
    caution: str = ""
    num_registers: int | None = None
    beside: Chosen | None = None


class Workbench:
    """Models by name, loaded when first needed and kept.

    Args:
        given: {name: how to load it}, offered before the phantoms.
        neurons: for the first given model, or None.
        heads: that may answer; each is asked where it fits.
        num_registers: R >= 0 test-time registers.
        memory: what keeps its visitors' images.
    """

    def __init__(
        self,
        given: Mapping[str, Callable[[], Backbone]] | None = None,
        neurons: RegisterNeurons | None = None,
        heads: Iterable[Reader] = (),
        num_registers: int = 1,
        memory: Memory | None = None,
    ) -> None:
        self._loaders = {
            **(given or {}),
            **{name: _phantom(name) for name in OF_RANDOM_WEIGHTS if name not in (given or {})},
        }
        self._given = next(iter(given)) if given else DEFAULT
        self._neurons = neurons
        self._heads = tuple(heads)
        self._loaded: dict[str, Backbone] = {}
        self._references: dict[tuple[str, int, int], References] = {}
        self._loading, self._running = threading.Lock(), threading.Lock()
        self.num_registers = num_registers
        self.memory = memory or Memory()
        self.handed_out = HandedOut()

    @property
    def names(self) -> list[str]:
        """The models to choose from, the one to begin with first."""
        return list(self._loaders)

    @property
    def loaded(self) -> list[str]:
        """The models that are in memory."""
        return list(self._loaded)

    def backbone(self, name: str) -> Backbone:
        """Return a model, loaded once.

        Raises:
            TTRError: no such model here, or it cannot be loaded.
        """
        if name not in self._loaders:
            raise OptionError(f"model {name!r} is not offered here; choose one of {', '.join(self._loaders)}")
        with self._loading:
            if name not in self._loaded:
                backbone = self._loaders[name]()
                backbone.weights_hash  # noqa: B018  computed here once, not on a visitor's time
                self._loaded[name] = backbone
            return self._loaded[name]

    def original(self, name: str) -> Backbone | None:
        """Return the model that artifacts were planted in to make another one, or None.

        It is offered here under its own name, or there is none.
        """
        planted_in = HYBRIDS[name].base if name in HYBRIDS else None
        return self.backbone(planted_in) if planted_in in self._loaders else None

    def sources(self, name: str) -> list[str]:
        """Return where register neurons of a model can come from, the best first."""
        backbone = self.backbone(name)
        found = [GIVEN] if self._neurons is not None and name == self._given else []
        found += [PLANTED] if backbone.warning else []
        return found + ([PRESET] if preset_for(name) else [])

    def choose(self, name: str, source: str | None = None) -> Chosen:
        """Return a model with the neurons of one of its :meth:`sources` (None: the best; none: no neurons).

        Raises:
            TTRError: the model cannot be loaded, or the neurons are not its own.
        """
        known = self.sources(name)
        source = source or next(iter(known), None)
        if source is None:
            return Chosen(name, "none yet: detect them", RegisterNeurons.from_pairs([]))
        if source not in known:
            raise OptionError(
                f"{source!r} is no source of neurons for {name}; choose one of {', '.join(known)}"
            )
        backbone = self.backbone(name)
        if source == PLANTED:
            return Chosen(name, source, RegisterNeurons.from_pairs(backbone.planted))
        file = preset_for(name)
        found = self._neurons if source == GIVEN else RegisterNeurons.load(file) if file else None
        assert found is not None
        return self.fitted(name, source, found)

    def fitted(self, name: str, source: str, neurons: RegisterNeurons) -> Chosen:
        """Return a model with given neurons; those found at another resolution come with a caution.

        Raises:
            NeuronsError: they belong to another model.
        """
        backbone = self.backbone(name)
        origin = neurons.provenance
        anywhere = replace(neurons, provenance=replace(origin, image_size=None))
        anywhere.check(backbone)
        said = []
        if origin.image_size not in (None, backbone.image_size):
            neurons = anywhere
            said.append(
                f"The register neurons were found at {origin.image_size[0]} px, and this model runs at "
                f"{backbone.image_size[0]} px; detect them again at this resolution."
            )
        elif origin.weights_hash not in (None, backbone.weights_hash):  # a resolution changes the hash too
            said.append("The register neurons were found on other weights than these; detect them again.")
        return Chosen(name, source, neurons, " ".join(said))

    def detect(self, name: str, pictures: Iterable[Picture] = ()) -> Chosen:
        """Find the register neurons of a model on given pictures, or on phantoms and the bundled samples."""
        own = [picture.image for picture in pictures]
        images = own or [
            *(open_image(path) for path in sample_paths().values()),
            *(p.image for p in phantom_images(PHANTOMS_TO_DETECT_ON)),
        ]
        backbone = self.backbone(name)
        with self._running:
            found = detect(
                backbone, images, batch_size=4, image_set="uploaded" if own else "samples and phantoms"
            )
        if not len(found) and not found.message:
            raise NeuronsError("no register neurons were found")
        return Chosen(name, f"detected on {counted(len(images), 'image')}", found)

    def case(self, picture: Picture, chosen: Chosen) -> Case:
        """Run a picture through a model before and after, and ask the head that fits; then a second choice.

        Raises:
            TTRError: the neurons do not fit the model.
        """
        backbone, original = self.backbone(chosen.model), self.original(chosen.model)
        beside = None if chosen.beside is None else self.case(picture, chosen.beside)
        with self._running:
            found = inspect(
                backbone,
                chosen.neurons,
                picture.image,
                num_registers=self._registers_of(chosen),
                original=original,
                references=self._references_of(chosen),
            )
        head = fitting(self._heads, backbone, len(found.before.feature))
        notes = (*filter(None, [chosen.caution, backbone.beside_cls]), *picture.notes)
        said = cautions(found, backbone.warning, notes)
        return Case(
            picture,
            found,
            chosen.model,
            chosen.source,
            said,
            answer(head, found) if head is not None else None,
            beside,
        )

    def _registers_of(self, chosen: Chosen) -> int:
        return self.num_registers if chosen.num_registers is None else chosen.num_registers

    def _references_of(self, chosen: Chosen) -> tuple[Reference | None, ...]:
        """Return what faithfulness is centred on, made once for a model and the neurons used last."""
        registers = self._registers_of(chosen)
        key = chosen.model, id(chosen.neurons), registers
        known = self._references.pop(key, None)
        if known is None or known[0] is not chosen.neurons:
            backbone, original = self.backbone(chosen.model), self.original(chosen.model)
            known = chosen.neurons, references_of(backbone, chosen.neurons, registers, original)
        self._references[key] = known
        while len(self._references) > REFERENCES:
            self._references.pop(next(iter(self._references)))
        return known[1]

    def asked(self, kept: Kept[Case] | None, chosen: Chosen | None) -> tuple[Case, Chosen]:
        """Return the open image and the choice of a model that a section works on.

        Raises:
            OptionError: no image is open, or it was not yet run through the chosen model.
        """
        case = value_of(kept)
        chosen = chosen or self.choose(self.names[0])
        if case.model != chosen.model:
            raise OptionError(f"the image is not run through {chosen.model} yet; wait a moment and try again")
        return case, chosen

    def head_for(self, case: Case) -> Reader | None:
        """Return the head that answers for a case's model, or None."""
        return fitting(self._heads, self.backbone(case.model), len(case.inspection.before.feature))

    def alone(self) -> Any:
        """Return the lock that lets one pass run at a time, for passes of the page's other sections."""
        return self._running

    def warm_up(self) -> None:
        """Load the first model and run it once, so that the first visitor does not wait."""
        self.case(sample(next(iter(sample_paths()))), self.choose(self.names[0]))


def _phantom(name: str) -> Callable[[], Backbone]:
    return lambda: load(name)


def read_neurons(path: str | Path) -> RegisterNeurons:
    """Read a visitor's file of register neurons, refusing it without its path.

    Raises:
        ImageError: it is not there, no regular file, or too large.
        NeuronsError: it holds no register neurons.
    """
    content_of(path, MOST_OF_NEURONS)
    try:
        return RegisterNeurons.load(path)
    except OSError:
        raise ImageError(f"this file {ABSENT}") from None
    except TTRError as error:
        raise NeuronsError(str(error).replace(str(path), "this file")) from None
