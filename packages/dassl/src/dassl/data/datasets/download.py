"""Archives that data sets come in."""

import tarfile
import zipfile
from pathlib import Path


def extract_archive(path: Path) -> None:
    """Unpack a zip or tar archive into the folder that holds it; nothing lands outside of it.

    Raises:
        ValueError: the file is neither.
    """
    print(f"Extracting {path}")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(path.parent)
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            archive.extractall(path.parent, filter="data")
    else:
        raise ValueError(
            f"{path} is neither a zip nor a tar archive: was an error page downloaded instead? "
            "Look into it, delete it and try again."
        )
