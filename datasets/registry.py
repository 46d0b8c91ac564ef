"""The face of the data: what images there are, and how to open one.

``datasets/`` has no ``__init__.py`` on purpose (a top-level package of that name would shadow another
library's); it is imported as ``ttr.datasets``, and this module gathers what the rest of ttr uses of it.
"""

from ttr.datasets.bundled import sample_paths
from ttr.datasets.folder import OpenedImages, list_images, open_image
from ttr.datasets.phantom import PhantomImage, phantom_image, phantom_images

__all__ = [
    "OpenedImages",
    "PhantomImage",
    "list_images",
    "open_image",
    "phantom_image",
    "phantom_images",
    "sample_paths",
]
