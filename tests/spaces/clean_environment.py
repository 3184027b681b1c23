"""The page in an environment of its requirements alone, as the Hub builds it: `make space`, which
builds that environment, runs this."""

import shutil
import subprocess
from pathlib import Path

from gradio_client import Client
from PIL import Image
from spaces.conftest import FOLDER, PATIENCE, Server

PYTHON = Path(__file__).parents[2] / "build" / "space" / "venv" / "bin" / "python"


def test_the_page_opens_and_draws(tmp_path):
    page = shutil.copytree(FOLDER, tmp_path / "page", ignore=shutil.ignore_patterns("__pycache__"))
    where = "import t2i_supcon; print(t2i_supcon.__file__)"
    found = subprocess.run([PYTHON, "-I", "-c", where], capture_output=True, text=True, cwd=tmp_path, check=True).stdout
    assert Path(found).is_relative_to(PYTHON.parents[1])
    server = Server(tmp_path, str(PYTHON), page / "app.py", PYTHONPATH="")
    try:
        client = Client(server.url, verbose=False, download_files=tmp_path, httpx_kwargs={"timeout": PATIENCE})
        files, seed, left_out = client.predict("a red heart", count=4, seed=0, api_name="/draw")
        assert len(files) == 4 and seed == 0 and not left_out
        assert Image.open(files[0]).text["prompt"] == "a red heart"
    finally:
        server.stop()
