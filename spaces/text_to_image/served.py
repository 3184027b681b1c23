"""Files that visitors fetch, in the folder that the page serves and empties."""

import hashlib
import io
import os
import tempfile
from pathlib import Path

from gradio.utils import get_upload_folder
from PIL import Image

from t2i_supcon.gallery import png_text


def picture_file(picture: Image.Image) -> str:
    """The path of a picture as a PNG file, which holds what the picture's `info` says."""
    file = io.BytesIO()
    picture.save(file, "PNG", pnginfo=png_text(picture.info))
    return served_file(file.getvalue(), "picture.png")


def served_file(content: bytes, name: str) -> str:
    """The path of a file with this content.

    The same content is the same file. It is complete from the start, and not written again: others
    may be fetching it.
    """
    path = Path(get_upload_folder()).resolve() / hashlib.sha256(content).hexdigest() / name
    if path.is_file():
        os.utime(path)  # its age counts from now
        return str(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as partial:
        partial.write(content)
    os.replace(partial.name, path)
    return str(path)
