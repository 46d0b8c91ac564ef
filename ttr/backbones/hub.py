"""Published weights: fetched from the hub once, checked, then read by timm or open_clip from the cache.

The hub's own client does the transfer. It resumes within a call when the line breaks, leaves nothing half
behind, and counts the bytes, but it does not hash what came over plain HTTP. So every file of weights is
compared here with the SHA-256 under which the hub publishes it. The libraries then load with the client
switched offline: they read what was checked, and without ``pretrained=True`` no request is sent at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ttr.backbones.checkpoint_files import read_state
from ttr.digests import sha256
from ttr.errors import ModelError
from ttr.files import read_json

_TIMM_FILES = ("model.safetensors", "pytorch_model.bin")
_OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
_OR_A_FILE = "or give a local file with weights="


def fetch_timm(name: str) -> str:
    """Fetch and check what timm reads for ``ARCHITECTURE[.TAG]`` or ``hf-hub:REPO[@REVISION]``.

    Returns:
        Where it came from, as ``REPO, commit 0123456789ab``; for the few weights that lie on no hub, their
        address, which timm fetches itself.

    Raises:
        ModelError: no such tag, or as :func:`fetch`.
    """
    import timm

    config: Any
    _, on_hub, identifier = name.partition(":")
    if on_hub:
        repo, _, revision = identifier.partition("@")
        config = _read_config(repo, "config.json", revision)
        file = config.get("pretrained_cfg", config).get("hf_hub_filename")
    else:
        architecture = name.split(".")[0]
        tagged = timm.list_models(f"{architecture}.*", pretrained=True, include_tags=True)
        if not tagged or ("." in name and name not in tagged):
            tags = ", ".join(each.partition(".")[2] for each in tagged) or "none published"
            raise ModelError(f"timm has no pretrained weights {name!r}; tags of {architecture}: {tags}")
        config = timm.get_pretrained_cfg(name)
        repo, _, revision = (config.hf_hub_id or "").partition("@")
        file = config.hf_hub_filename
        if not repo:
            return str(config.url)
    return _place(repo, fetch(repo, (file,) if file else _TIMM_FILES, revision))


def fetch_open_clip(architecture: str, tag: str) -> str:
    """Fetch and check what open_clip reads for a tag, or for the architecture ``hf-hub:REPO``.

    Returns:
        Where it came from, as :func:`fetch_timm` says it.

    Raises:
        ModelError: as :func:`fetch`.
    """
    import open_clip

    if architecture.startswith("hf-hub:"):
        repo, files = architecture.removeprefix("hf-hub:"), _OPEN_CLIP_FILES
        config = _read_config(repo, "open_clip_config.json").get("model_cfg", {})
    else:
        source = open_clip.get_pretrained_cfg(architecture, tag)
        repo, _, file = source.get("hf_hub", "").rpartition("/")
        if not repo:
            return str(source.get("url"))
        files = (f"{file.removesuffix('.bin')}.safetensors", file) if file else _OPEN_CLIP_FILES
        config = open_clip.get_model_config(architecture)
    text_tower = config.get("text_cfg", {}).get("hf_model_name")
    if text_tower:
        fetch(text_tower, ("config.json",))
    return _place(repo, fetch(repo, files))


def fetch(repo: str, files: Sequence[str], revision: str | None = None) -> Path:
    """Return the first of ``files`` that the repository has, from the cache or the hub, its content checked.

    Raises:
        ModelError: repository, revision or file missing, access refused, hub out of reach and nothing cached,
            a transfer that broke off, or content that is not what the hub published.
    """
    from huggingface_hub import hf_hub_download

    revision = revision or None
    try:
        file = next((file for file in files if _is_published(repo, file, revision)), None)
    except Exception as error:
        cached = _cached(repo, files, revision)
        if cached is None:
            raise _out_of_reach(repo, error) from error
        _check(cached)
        return cached
    if file is None:
        raise ModelError(f"{repo} on the hub has no {' or '.join(files)}; check the name, {_OR_A_FILE}")
    try:
        path = Path(hf_hub_download(repo, file, revision=revision))
    except Exception as error:
        raise ModelError(
            f"the transfer of {repo}/{file} broke off ({_reason(error)}); nothing half was kept: "
            f"try again, {_OR_A_FILE}"
        ) from error
    _check(path)
    return path


def fetch_transformers(repo: str) -> tuple[Path, str]:
    """Fetch and check what transformers reads of a repository: configuration, weights, preprocessing.

    Returns:
        The directory in the cache that holds them, and where they came from, as :func:`fetch_timm` says it.

    Raises:
        ModelError: as :func:`fetch`; a repository without preprocessing is no fault.
    """
    config = fetch(repo, ("config.json",))
    weights = fetch(repo, ("model.safetensors",))
    for file in PROCESSOR_FILES:
        if _cached(repo, (file,), None) or _is_there(repo, file):
            fetch(repo, (file,))
            break
    return config.parent, _place(repo, weights)


@contextmanager
def from_cache() -> Iterator[None]:
    """Keep the hub's client offline: a library that loads meanwhile reads the cache and sends nothing."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _is_published(repo: str, file: str, revision: str | None) -> bool:
    """Ask once, without the client's retries: those take minutes where a firewall drops the request."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    try:
        get_hf_file_metadata(hf_hub_url(repo, file, revision=revision), timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except EntryNotFoundError:
        return False
    return True


def _is_there(repo: str, file: str) -> bool:
    try:
        return _is_published(repo, file, None)
    except Exception:  # whatever keeps the hub from answering: then nothing is known to be there
        return False


def _cached(repo: str, files: Sequence[str], revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = (try_to_load_from_cache(repo, file, revision=revision) for file in files)
        return next((Path(path) for path in found if isinstance(path, str)), None)
    except HFValidationError:
        return None


def _check(path: Path) -> None:
    """Compare a file with the SHA-256 that the hub gave it; read a pickled one before the library does."""
    # One link only: the cache names a blob by its published hash; what lies behind that can have other names.
    blob = path.parent / path.readlink() if path.is_symlink() else path
    if re.fullmatch("[0-9a-f]{64}", blob.name):
        with path.open("rb") as file:
            found = sha256(iter(lambda: file.read(1 << 20), b""))
        if found != blob.name:
            raise ModelError(
                f"{path} is damaged: the hub published SHA-256 {blob.name[:12]}..., the file has "
                f"{found[:12]}...; remove {blob.resolve()} and load again"
            )
    # open_clip repeats a read that ended in a TypeError without weights_only; torch before 2.6 executes then.
    if path.suffix not in (".safetensors", ".json"):
        read_state(path)


def _read_config(repo: str, file: str, revision: str | None = None) -> dict[str, Any]:
    path = fetch(repo, (file,), revision)
    try:
        return dict(read_json(path))
    except (ValueError, TypeError) as error:
        raise ModelError(f"{path} is no JSON object; remove {path.resolve()} and load again") from error


def _place(repo: str, path: Path) -> str:
    return f"{repo}, commit {path.parent.name[:12]}"


def _out_of_reach(repo: str, error: Exception) -> ModelError:
    from huggingface_hub import constants, errors

    uncached = f"and {repo} is not in the cache {constants.HF_HUB_CACHE}"
    if isinstance(error, errors.GatedRepoError):
        what = (
            f"{repo} is gated: accept its terms at {constants.ENDPOINT}/{repo} and log in with: hf auth login"
        )
    elif isinstance(error, errors.RepositoryNotFoundError):
        what = f"the hub shows no repository {repo}: check the name; if it is private, run: hf auth login"
    elif isinstance(error, errors.RevisionNotFoundError):
        what = f"{repo} has no such revision: check what stands behind the @"
    elif isinstance(error, errors.HFValidationError):
        what = f"{repo!r} is no repository of the hub: write OWNER/NAME"
    elif isinstance(error, errors.HfHubHTTPError):
        what = f"the hub {constants.ENDPOINT} refused ({_reason(error)}) {uncached}: try again later"
    elif isinstance(error, errors.OfflineModeIsEnabled):
        what = f"HF_HUB_OFFLINE is set {uncached}: unset it to fetch once"
    else:
        what = f"the hub {constants.ENDPOINT} is out of reach ({_reason(error)}) {uncached}: connect once"
    return ModelError(f"{what}, {_OR_A_FILE}")


def _reason(error: Exception) -> str:
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0][:200]}" if said else type(error).__name__
