"""The named endpoints, called as programs call them, and what a hostile one may try."""

import json
import re
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from gradio_client import Client
from PIL import Image
from spaces.conftest import FOLDER, PATIENCE

from t2i_supcon import EMBEDDED_MODELS, embedded_model
from t2i_supcon.figures import enlarged
from t2i_supcon.pipeline import load_pipeline

PLACES = "|".join(re.escape(str(place)) for place in (FOLDER.parents[1], tempfile.gettempdir()))  # which no one is told
ENDPOINTS = {"/draw", "/compare", "/words", "/word_views", "/walk", "/models"}


@pytest.fixture(scope="module")
def client(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("downloads")
    return Client(server.url, verbose=False, download_files=folder, httpx_kwargs={"timeout": PATIENCE})


@pytest.fixture
def innocent_log(server):
    """Nothing that a visitor did went unexpectedly wrong."""
    before = server.log.read_text()
    yield
    said = server.log.read_text()[len(before) :]
    assert "Traceback" not in said and "ERROR" not in said, said


def answer(server, path, data=None, headers=None):
    """Status and body of one request, as it is sent."""
    request = urllib.request.Request(server.url + path, data=data, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def call(server, endpoint, *values):
    """What an endpoint says to these values, sent as they are: "complete" or "error", and with it
    the values or the message."""
    body = json.dumps({"data": values}).encode()
    status, said = answer(server, f"/gradio_api/call/{endpoint}", body, {"Content-Type": "application/json"})
    if status != 200:
        return "error", said.decode()
    said = answer(server, f"/gradio_api/call/{endpoint}/{json.loads(said)['event_id']}")[1].decode()
    events = re.findall(r"event: (\w+)\ndata: (.*)", said)
    return next((event, data) for event, data in events if event in ("complete", "error"))


def test_every_endpoint_is_named_and_documented(client):
    described = client.view_api(return_format="dict")
    assert set(described["named_endpoints"]) == ENDPOINTS and not described["unnamed_endpoints"]
    manual = (FOLDER / "API.md").read_text()
    for name, endpoint in described["named_endpoints"].items():
        [row] = [line for line in manual.splitlines() if line.startswith(f"| `{name}`")]
        assert set(re.findall(r"`(\w+)`", row)) == {one["parameter_name"] for one in endpoint["parameters"]}


def test_the_snippet_of_the_page_runs(server, capsys):
    [snippet] = re.findall(r"```python\n(.*?)```", (FOLDER / "API.md").read_text(), flags=re.DOTALL)
    exec(snippet.replace("http://127.0.0.1:7860", server.url), {})
    assert re.search(r"\S+\.png 0 \[\]", capsys.readouterr().out)


def test_pictures_are_those_of_the_pipeline_and_say_so(client, innocent_log):
    files, seed, left_out = client.predict("a red zörp zorp circle", count=3, seed=11, truncation=1.5, api_name="/draw")
    assert seed == 11 and left_out == ["zörp", "zorp"] and len(files) == 3
    drawn = load_pipeline(str(embedded_model()))("a red circle", num_images_per_prompt=3, seed=11, truncation=1.5)
    for number, (file, expected) in enumerate(zip(files, drawn), start=1):
        with Image.open(file) as picture:
            assert picture.format == "PNG"
            assert picture.text["prompt"] == "a red zörp zorp circle" and picture.text["image"] == str(number)
            assert picture.text["seed"] == "11" and picture.text["model"] == "emoji-scl"
            assert np.array_equal(np.asarray(picture), np.asarray(enlarged(expected, 256)))


def test_a_seed_that_is_not_given_is_given_back(client):
    first, second = (client.predict("a red circle", api_name="/draw")[1] for _ in range(2))
    assert first != second
    files = [client.predict("a red circle", seed=first, api_name="/draw")[0][0] for _ in range(2)]
    assert np.array_equal(*(np.asarray(Image.open(file)) for file in files))


def test_models_stand_side_by_side(client, innocent_log):
    sheets, seed = client.predict("a red circle", count=4, seed=2, api_name="/compare")
    assert list(sheets) == list(EMBEDDED_MODELS) == list(client.predict(api_name="/models")) and seed == 2
    opened = [Image.open(file) for file in sheets.values()]
    assert opened[0].size == opened[1].size and [image.text["model"] for image in opened] == list(sheets)


def test_words_and_where_they_act(client, innocent_log):
    assert client.predict("a red zorp circle", api_name="/words") == (["a", "red", "circle"], ["zorp"], [])
    files, labels, seed = client.predict("a red circle", seed=1, api_name="/word_views")
    assert len(files) == len(labels) and labels[0] == "the picture" and seed == 1
    assert all(Image.open(file).text["view"] == label for file, label in zip(files, labels))


def test_a_walk_is_an_animation_between_both_pictures(client, innocent_log):
    file, seed, to_seed = client.predict("a red heart", "a blue circle", seed=0, to_seed=1, frames=4, api_name="/walk")
    assert (seed, to_seed) == (0, 1)
    with Image.open(file) as film:
        assert film.format == "GIF" and film.n_frames == 6  # there and back
        for frame, ends in ((0, ("a red heart", 0)), (3, ("a blue circle", 1))):
            film.seek(frame)
            [end], *_ = client.predict(ends[0], seed=ends[1], api_name="/draw")
            assert np.abs(np.asarray(film.convert("RGB")).astype(int) - np.asarray(Image.open(end))).mean() < 4


FORGED = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
ADDRESS = {"path": "http://127.0.0.1:1/", "url": "http://127.0.0.1:1/", "meta": {"_type": "gradio.FileData"}}
ODD = {  # prompt, model, count, seed, truncation
    "empty": ("",),
    "blank": (" \t\n",),
    "long": ("red " * 25_000,),
    "emoji": ("😀❤️",),
    "control characters": ("\x00\x01\x1b[31m\x7f",),
    "half a character": ("\ud83d",),
    "markup": ("<zorp qux=blorb>",),
    "number for a sentence": (7,),
    "list for a sentence": (["red", "circle"],),
    "forged file": (FORGED,),
    "forged address": (ADDRESS,),
    "no picture": ("a red circle", "emoji-scl", 0),
    "too many pictures": ("a red circle", "emoji-scl", 10**30),
    "half a picture": ("a red circle", "emoji-scl", 1.5),
    "text for a count": ("a red circle", "emoji-scl", "four"),
    "negative seed": ("a red circle", "emoji-scl", 1, -1),
    "huge seed": ("a red circle", "emoji-scl", 1, 10**18),
    "NaN": ("a red circle", "emoji-scl", 1, 0, float("nan")),
    "infinity": ("a red circle", "emoji-scl", 1, 0, float("inf")),
    "nothing for a number": ("a red circle", "emoji-scl", 1, 0, None),
    "no model": ("a red circle", "../../etc/passwd"),
    "list for a model": ("a red circle", ["emoji-scl"]),
    "too few values": (),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_input_is_answered_in_one_safe_line(server, name):
    """Over the wire as any program can send it, with numbers that JSON itself does not know."""
    values = ODD[name]
    if 0 < len(values) < 5:
        values = (*values, *("a red circle", "emoji-scl", 1, 0, 3.0)[len(values) :])
    event, said = call(server, "draw", *values)
    assert event == "error" and len(said) < 400
    assert not re.search(r"Traceback|File \"|\.py|etc/passwd|" + PLACES, said)


def test_private_events_are_not_for_programs(client):
    for name in ("/redraw", "/walked", "/tiles", "/choose", "/lambda"):
        with pytest.raises(ValueError, match="Cannot find a function"):
            client.predict("a red circle", api_name=name)


def test_events_of_the_page_check_what_a_forged_call_sends(server):
    """The page's own events, called by their numbers with what no control of it can send."""
    config = json.loads(answer(server, "/config")[1])
    events = [event for event in config["dependencies"] if event["api_visibility"] == "private" and event["backend_fn"]]
    assert len(events) >= 4
    session = "forged"
    joined = 0
    for event in events:
        for junk in ("<b>", -1, [1], FORGED):
            body = {"data": [junk] * len(event["inputs"]), "fn_index": event["id"], "session_hash": session}
            status, said = answer(
                server, "/gradio_api/queue/join", json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            joined += status == 200
            assert status in (200, 400, 422, 503) and not re.search(rb"Traceback|/site-packages", said)
    assert joined
    _, said = answer(server, f"/gradio_api/queue/data?session_hash={session}")
    assert b"process_completed" in said
    assert not re.search(rb"Traceback|/site-packages|root:|" + PLACES.encode(), said)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/proc/self/environ",
        str(FOLDER / "app.py"),
        str(embedded_model() / "model.safetensors"),
        "../../../../etc/passwd",
        "http://127.0.0.1:1/",
        "file:///etc/passwd",
    ],
)
@pytest.mark.parametrize("route", ["/gradio_api/file=", "/file=", "/gradio_api/proxy=", "/static/", "/assets/"])
def test_no_file_can_be_read_from_outside(server, route, path):
    for form in (path, urllib.parse.quote(path, safe="")):
        status, said = answer(server, route + form)
        assert status in (400, 403, 404), (status, said[:200])
        assert b"root:" not in said and b"Traceback" not in said


def test_uploads_are_refused(server):
    form = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="../../note.txt"\r\n'
        b"Content-Type: text/plain\r\n\r\nsome text\r\n--x--\r\n"
    )
    status, said = answer(server, "/gradio_api/upload", form, {"Content-Type": "multipart/form-data; boundary=x"})
    assert status == 413 and b"Traceback" not in said
    assert not list(server.cache.rglob("note.txt"))


def test_calls_past_the_queue_are_refused(server):
    body = json.dumps({"data": ["a red circle"]}).encode()
    for route in ("/gradio_api/run/draw", "/gradio_api/api/draw"):
        status, said = answer(server, route, body, {"Content-Type": "application/json"})
        assert status in (404, 405) and b"picture" not in said and b"Traceback" not in said, (route, status, said)


def test_a_hundred_clients_at_once_get_pictures_or_are_told_to_wait(server, innocent_log):
    with ThreadPoolExecutor(100) as pool:
        answers = list(
            pool.map(lambda seed: call(server, "draw", "a red circle", "emoji-scl", 1, seed, 3.0), range(100))
        )
    drawn = [json.loads(said)[0][0]["path"] for event, said in answers if event == "complete"]
    busy = [said for event, said in answers if event == "error"]
    assert len(drawn) + len(busy) == 100 and len(set(drawn)) == len(drawn) >= 20
    assert all("Queue is full" in said for said in busy), set(busy)
    assert call(server, "draw", "a red circle", "emoji-scl", 1, 0, 3.0)[0] == "complete"  # and it goes on
