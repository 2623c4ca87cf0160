"""`hf-hub:OWNER/NAME[@REVISION]` -> a directory in the cache of `huggingface_hub`.

Cache, resumed downloads, tokens and the offline mode (HF_HOME, HF_HUB_OFFLINE) are that library's.
"""

from __future__ import annotations

import re
from pathlib import Path

from frozen_clip.weights.configs import first_line, read_json
from frozen_clip.weights.directories import HUGGING_FACE, OPEN_CLIP, WEIGHTS

PREFIX = "hf-hub:"
NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def fetch(name: str, download: bool = True) -> Path:
    """The directory with a model's config and weights; with `download`, what it lacks is fetched.

    Raises ValueError for a name that cannot be on the hub, OSError with what to do where the hub
    does not have the model or does not answer.
    """
    match = NAME.fullmatch(name.removeprefix(PREFIX))
    if match is None:
        raise ValueError(
            f"backbone {name!r} is no name on the Hugging Face hub; it must be "
            f"{PREFIX}OWNER/NAME or {PREFIX}OWNER/NAME@REVISION, for example "
            f"{PREFIX}laion/CLIP-ViT-B-16-laion2B-s34B-b88K"
        )
    return _Repository(name, match["repo"], match["revision"], download).directory()


class _Repository:
    """One revision of a repository; after the first file `revision` is the commit of that file."""

    def __init__(self, name: str, repo: str, revision: str | None, download: bool):
        self.name, self.repo, self.revision, self.download = name, repo, revision, download

    def directory(self) -> Path:
        """Get the files of the first kind that the repository has."""
        for config, names in WEIGHTS.items():
            found = self._get(config) and next(filter(None, map(self._get, names)), None)
            if not found:
                continue
            index = read_json(found) if found.suffix == ".json" else {}
            shards = sorted({str(shard) for shard in (index.get("weight_map") or {}).values()})
            for file in (*shards, "preprocessor_config.json"):
                self._get(file)
            return found.parent
        raise OSError(
            f"{self.name} has no config with weights of a CLIP, of open_clip or of Hugging Face"
            f"{self._not_cached()}: choose another model"
        )

    def _not_cached(self) -> str:
        """The other reason for a missing file: only the cache was looked at."""
        from huggingface_hub.constants import HF_HUB_OFFLINE

        if HF_HUB_OFFLINE:
            return ", or they are not in the cache, and HF_HUB_OFFLINE is set"
        return "" if self.download else ", or they are not in the cache yet"

    def _get(self, file: str) -> Path | None:
        """The file, or None if the repository does not have it."""
        from huggingface_hub import errors, hf_hub_download

        try:
            found = hf_hub_download(
                self.repo, file, revision=self.revision, local_files_only=not self.download
            )
        except Exception as error:  # whatever a network provokes
            if isinstance(error, errors.EntryNotFoundError) and (
                not isinstance(error, errors.LocalEntryNotFoundError) or self._not_cached()
            ):
                return None
            raise OSError(self._explained(error)) from error
        self.revision = Path(found).parent.name  # so that all files are of one commit
        return Path(found)

    def _explained(self, error: Exception) -> str:
        from huggingface_hub import errors

        if isinstance(error, errors.RepositoryNotFoundError):
            return (
                f"there is no {self.repo} on the Hugging Face hub, or it is private or gated: "
                "correct the name, or log in with `hf auth login`"
            )
        if isinstance(error, errors.RevisionNotFoundError):
            return f"{self.repo} has no revision {self.revision}: leave it out, or give another"
        return (
            f"{self.name} is not in the cache, and could not be downloaded from the Hugging Face "
            f"hub ({first_line(error.__cause__ or error)}). Try again with a network, set "
            "HF_HUB_OFFLINE=1 if all of it was downloaded before, or give the path of a directory"
        )


def cached() -> list[tuple[str, int]]:
    """The CLIPs in the cache as (name, bytes)."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return []
    found = []
    for repository in sorted(repositories, key=lambda repository: repository.repo_id):
        files = {f.file_name: f.file_path for r in repository.revisions for f in r.files}
        if repository.repo_type == "model" and _is_clip(files):
            found.append((f"{PREFIX}{repository.repo_id}", repository.size_on_disk))
    return found


def _is_clip(files: dict[str, Path]) -> bool:
    kinds = [c for c, names in WEIGHTS.items() if c in files and not files.keys().isdisjoint(names)]
    try:
        return OPEN_CLIP in kinds or (
            HUGGING_FACE in kinds and read_json(files[HUGGING_FACE]).get("model_type") == "clip"
        )
    except ValueError:
        return False
