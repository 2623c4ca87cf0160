"""`hf-hub:OWNER/NAME[@REVISION]` -> a directory in the cache of `huggingface_hub`.

Cache, resumed downloads, tokens and the offline mode (HF_HOME, HF_HUB_OFFLINE) are that library's.
"""

from __future__ import annotations

import re
from pathlib import Path

from frozen_clip.configs import read_json
from frozen_clip.directories import KINDS

PREFIX = "hf-hub:"
NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
BESIDE = "preprocessor_config.json"


def fetch(name: str, download: bool = True) -> Path:
    """The directory with a model's config and weights, downloaded as far as it is not there.

    Raises ValueError for what is no such name, and OSError with what to do where the hub does not
    have it or does not answer.
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
    """One revision of a repository; `revision` becomes the commit with the first file."""

    def __init__(self, name: str, repo: str, revision: str | None, download: bool):
        self.name, self.repo, self.revision = name, repo, revision
        self.here = not download

    def directory(self) -> Path:
        for config, (_, names) in KINDS.items():
            if self._get(config) is None:
                continue
            for name in names:
                file = self._get(name)
                if file is None:
                    continue
                table = read_json(file).get("weight_map") if name.endswith(".json") else None
                for shard in sorted(set(map(str, table.values()))) if table else ():
                    self._get(shard)
                self._get(BESIDE)
                return file.parent
        raise OSError(
            f"{self.name} has no config with weights of a CLIP, of open_clip or of Hugging Face"
            f"{self._missing()}: choose another model"
        )

    def _missing(self) -> str:
        from huggingface_hub.constants import HF_HUB_OFFLINE

        if HF_HUB_OFFLINE:
            return ", or they are not in the cache, and HF_HUB_OFFLINE is set"
        return ", or they are not in the cache yet" if self.here else ""

    def _get(self, file: str) -> Path | None:
        """The file, or None if the repository does not have it."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import (
            EntryNotFoundError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        try:
            found = hf_hub_download(
                self.repo, file, revision=self.revision, local_files_only=self.here
            )
        except LocalEntryNotFoundError as error:
            if self._missing():
                return None
            raise OSError(
                f"{self.name} is not in the cache, and the Hugging Face hub could not be reached "
                f"({_reason(error)}). Try again with a network, set HF_HUB_OFFLINE=1 if all of it "
                "was downloaded before, or give the path of a directory"
            ) from error
        except EntryNotFoundError:
            return None
        except RepositoryNotFoundError as error:
            raise OSError(
                f"there is no {self.repo} on the Hugging Face hub, or it is private or gated: "
                "correct the name, or log in with `hf auth login`"
            ) from error
        except RevisionNotFoundError as error:
            raise OSError(
                f"{self.repo} has no revision {self.revision}: leave it out, or give a branch, tag "
                "or commit"
            ) from error
        except Exception as error:  # whatever a network provokes
            raise OSError(
                f"{self.name} could not be downloaded ({_reason(error)}). Try again, or put the "
                "directory here and give its path"
            ) from error
        self.revision = Path(found).parent.name  # so that all files are of one commit
        return Path(found)


def _reason(error: BaseException) -> str:
    return str(error.__cause__ or error).strip().split("\n")[0][:200]


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
        is_clip = any(
            config in files and any(name in files for name in names)
            for config, (_, names) in KINDS.items()
        )
        if repository.repo_type == "model" and is_clip and _is_clip(files):
            found.append((f"{PREFIX}{repository.repo_id}", repository.size_on_disk))
    return found


def _is_clip(files: dict[str, Path]) -> bool:
    if "open_clip_config.json" in files:
        return True
    try:
        return read_json(Path(files["config.json"])).get("model_type") == "clip"
    except ValueError:
        return False
