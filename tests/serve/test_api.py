"""What the server answers, and how it says no."""

from __future__ import annotations

import base64
import io
import resource
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.serve.conftest import StandIn, encoded, trained_on


def shown(picture):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture["png"]))))


def test_a_text_gives_pictures_of_its_seed(client):
    answer = client().post("/v1/generate", json={"text": "a red circle", "n": 2, "seed": 7}).json()
    assert [shown(each).max() for each in answer["images"]] == [7, 8]
    assert (answer["images"][0]["width"], answer["images"][0]["height"]) == (8, 8)
    assert (answer["seed"], answer["chosen_by"], answer["notices"]) == (7, None, [])


def test_a_picture_may_be_had_as_a_file(client):
    answer = client().post("/v1/generate", json={"text": "a zebra", "seed": 7}, headers={"Accept": "image/png"})
    assert answer.headers["content-type"] == "image/png"
    assert np.asarray(Image.open(io.BytesIO(answer.content))).max() == 7


def test_what_the_model_cannot_know_is_told(client):
    answers = client()
    assert "zebra" in answers.post("/v1/generate", json={"text": "a zebra"}).json()["notices"][0]
    assert "zebra" in answers.post("/v1/roundtrip", json={"text": "a zebra"}).json()["notices"][0]
    assert "zebra" in answers.post("/v1/score", json={"image": encoded(), "text": "a zebra"}).json()["notices"][0]
    frames = [Image.new("L", (4, 4), tone) for tone in (0, 255)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    animated = base64.b64encode(file.getvalue()).decode()
    assert answers.post("/v1/caption", json={"image": animated}).json()["notices"] == ["of an animation the first picture is read"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_an_image_of_any_kind_is_read(client, kind):
    image = f"data:image/any;base64,{encoded(kind=kind)}"
    answer = client().post("/v1/caption", json={"image": image}).json()
    assert answer["captions"] == [{"text": "a mean of 100", "log_p": None}]


def test_several_captions_come_with_their_log_probabilities(client):
    answer = client().post("/v1/caption", json={"image": encoded(), "n": 2}).json()
    assert answer["captions"] == [{"text": "caption 0", "log_p": 0.0}, {"text": "caption 1", "log_p": -1.0}]


def test_questions_are_answered_or_invented(client):
    answers = client()
    asked = answers.post("/v1/ask", json={"image": encoded(), "question": "how dark is it?"}).json()
    assert asked == {"question": "how dark is it?", "answer": "100", "asked_by": "user", "notices": []}
    invented = answers.post("/v1/ask", json={"image": encoded()}).json()
    assert invented == {"question": "how bright is it?", "answer": "100", "asked_by": "model", "notices": []}


def test_a_round_trip_shows_its_legs(client):
    answers = client()
    legs = answers.post("/v1/roundtrip", json={"text": "a red circle", "seed": 9}).json()["legs"]
    assert [(leg["part"], leg["text"]) for leg in legs] == [
        ("input", "a red circle"),
        ("image_decoder", None),
        ("text_decoder", "a mean of 9"),
    ]
    legs = answers.post("/v1/roundtrip", json={"image": encoded(), "seed": 9}).json()["legs"]
    assert [(leg["part"], leg["text"]) for leg in legs] == [("input", None), ("text_decoder", "a mean of 100"), ("image_decoder", None)]
    assert [shown(legs[place]["image"]).max() for place in (0, 2)] == [100, 9]


def test_a_text_that_is_the_name_of_a_file_is_a_text(client, tmp_path):
    path = tmp_path / "secret.png"
    Image.new("L", (8, 8), 200).save(path)
    assert client().post("/v1/roundtrip", json={"text": str(path), "seed": 9}).json()["legs"][2]["text"] == "a mean of 9"


def test_scores_say_what_they_are(client):
    answer = client().post("/v1/score", json={"image": encoded(), "text": "a"}).json()
    assert answer.pop("notices") == ["image_given_text: not finite, so none is given"]
    assert answer == {"text_given_image": -1.5, "image_given_text": None, "agreement": None, "image_kind": "bound", "image_of": "images"}


def test_the_server_tells_of_itself(client):
    answers = client(StandIn(("text_encoder", "image_decoder")))
    told = answers.get("/v1/model").json()
    assert (told["name"], told["image"], told["options"], told["examples"]) == ("stand-in", [8, 8, 3], ["steps"], ["a text"])
    assert told["operations"]["generate"] == {"available": True, "reason": None}
    assert told["operations"]["caption"] == {"available": False, "reason": "this model has no image_encoder and no text_decoder"}
    assert answers.get("/health").json()["status"] == "ok"
    answers.post("/v1/generate", json={"text": "a"})
    figures = answers.get("/metrics").text
    assert 'ibllm_requests_total{operation="generate",status="200"} 1.0' in figures
    assert 'ibllm_batch_rows_count{operation="generate"} 1.0' in figures
    assert "ibllm_waiting 0.0" in figures and "process_resident_memory_bytes" in figures


def test_what_a_model_cannot_is_said(client):
    answer = client(StandIn(("text_encoder", "image_decoder"))).post("/v1/caption", json={"image": encoded()})
    assert answer.status_code == 409
    assert answer.json() == {"error": {"code": "cannot", "message": "this model has no image_encoder and no text_decoder"}}


def test_what_a_picture_loses_and_what_a_caption_lacks_is_noticed(client):
    answers = client()
    wide = answers.post("/v1/caption", json={"image": encoded((40, 10))}).json()
    assert wide["notices"] == ["75% of the picture lies outside what is read: the model reads the middle, as its data were cropped"]
    long = answers.post("/v1/caption", json={"image": encoded(colour=77)}).json()
    assert long["notices"] == ["the text that was written ends because it may not be longer than max_length = 24 tokens"]
    assert answers.post("/v1/caption", json={"image": encoded()}).json()["notices"] == []


def test_a_model_that_draws_the_same_for_every_seed_says_so(client):
    answers = client()
    said = "all 4 drawings of a text are equal: this model draws the same picture for every seed"
    assert answers.post("/v1/generate", json={"text": "always", "n": 4}).json()["notices"] == [said]
    assert answers.post("/v1/generate", json={"text": "other", "n": 4}).json()["notices"] == []


def test_a_model_that_saw_no_question_is_asked_none(client, stand_in):
    stand_in.recipe = trained_on({"image_encoder"})
    answer = client().post("/v1/ask", json={"image": encoded()})
    assert answer.status_code == 409 and "trained on no questions" in answer.json()["error"]["message"]


def test_a_model_that_writes_nothing_is_told_as_such(client, stand_in):
    stand_in.written = ""
    stand_in.asked = ""
    answers = client()
    assert answers.post("/v1/caption", json={"image": encoded()}).json()["captions"] == [{"text": "", "log_p": None}]
    for path in ("ask", "roundtrip"):
        answer = answers.post(f"/v1/{path}", json={"image": encoded()})
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "cannot")
        assert "wrote nothing" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("generate", {}, "text: Field required"),
        ("generate", {"text": ""}, "text: "),
        ("generate", {"text": "a" * 2001}, "text: "),
        ("generate", {"text": "a", "n": 17}, "n: "),
        ("generate", {"text": "a", "n": 9, "best_of": 9}, "at most 64 drawings"),
        ("generate", {"text": "a", "seed": -1}, "seed: "),
        ("generate", {"text": "a", "sed": 1}, "sed: "),
        ("caption", {"image": "no base64!"}, "image: expected base64"),
        ("caption", {"image": base64.b64encode(b"no image").decode()}, "image: cannot be read"),
        ("caption", {"image": encoded()[:60]}, "image: "),
        ("caption", {"image": encoded(), "temperature": 1, "beams": 2}, "either drawn or searched for"),
        ("roundtrip", {}, "expected text or image"),
        ("roundtrip", {"text": "a", "image": "b"}, "expected text or image"),
    ],
)
def test_a_mistake_is_named_in_one_form(client, path, body, said):
    answer = client().post(f"/v1/{path}", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "invalid" and said in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 422),
        (b"[" * 100_000, 400),
        (b'{"text": "\\ud800"}', 422),
        (b'{"text": NaN}', 422),
        (b'{"text": "a", "seed": ' + b"9" * 5_000 + b"}", 400),
        (b'{"text": "a", "guidance": 1e999}', 422),
        (b"\xff\xff", 400),
        (b"", 422),
    ],
)
def test_a_body_that_is_no_request_is_the_askers_fault(client, body, status):
    answer = client().post("/v1/generate", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"code", "message"}


def test_paths_and_methods_that_are_not_there_have_the_same_form(client):
    answers = client()
    assert answers.get("/v1/nothing").json()["error"]["code"] == "not_found"
    assert answers.get("/v1/generate").json()["error"]["code"] == "method_not_allowed"


def test_an_error_of_ours_is_told_as_such_and_the_next_request_is_answered(client):
    answers = client()
    answer = answers.post("/v1/generate", json={"text": "break"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "broken" not in answer.text
    assert answers.post("/v1/generate", json={"text": "a"}).status_code == 200


def bomb(width: int, height: int, rows: int) -> str:
    """A PNG of zeros: a thousandth of what it unpacks to. Its first rows are there."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    data = b"".join([*(packer.compress(bytes(1 + width)) for _ in range(rows)), packer.flush()])
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")).decode()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("width", "height", "rows"), [(8_000, 8_000, 8_000), (30_000, 30_000, 10)])
def test_a_small_file_that_unpacks_to_much_is_not_unpacked(client, width, height, rows):
    answers, image = client(), bomb(width, height, rows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = answers.post("/v1/caption", json={"image": image})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # KiB; unpacked it is 64 MB, or 900


def test_a_body_that_is_too_large_is_not_read(client):
    answers = client(body=1000)
    assert answers.post("/v1/caption", json={"image": "a" * 2000}).status_code == 413
    sent = []

    def endless():
        for _ in range(1000):
            sent.append(1)
            yield b'{"image": "' + b"a" * 500

    answer = answers.post("/v1/caption", content=endless(), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_a_token_is_asked_for(client):
    answers = client(token="sesame-open", host="0.0.0.0")
    refused = answers.post("/v1/generate", json={"text": "a"})
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    for given in ("Bearer wrong", "sesame-open", "Bearer ", "Basic sesame-open", "Bearer sésame"):
        assert answers.get("/v1/model", headers={"Authorization": given.encode("latin-1")}).status_code == 401
    assert [answers.get(path).status_code for path in ("/metrics", "/openapi.json", "/v1/model", "/health", "/", "/page.js")] == [
        401
    ] * 3 + [200] * 3
    assert answers.post("/v1/generate", json={"text": "a"}, headers={"Authorization": "Bearer sesame-open"}).status_code == 200


def test_another_sites_page_gets_nothing(client):
    answers = client()
    rebound = answers.post("/v1/generate", json={"text": "a"}, headers={"Host": "evil.example"})
    assert (rebound.status_code, rebound.json()["error"]["code"]) == (403, "forbidden")
    plain = answers.post("/v1/generate", content=b'{"text": "a"}', headers={"Content-Type": "text/plain"})
    assert plain.status_code == 422
    assert "access-control-allow-origin" not in plain.headers
    for host in ("127.0.0.1:8000", "[::1]:8000", "LOCALHOST"):
        assert answers.get("/health", headers={"Host": host}).status_code == 200


def test_the_page_needs_nothing_from_elsewhere(client):
    answers = client()
    page = answers.get("/")
    assert page.status_code == 200 and "default-src 'none'" in page.headers["content-security-policy"]
    for path in ("/", "/page.css", "/page.js"):
        text = answers.get(path).text
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "") and "https://" not in text


def test_the_description_has_every_path_and_error(client):
    described = client().get("/openapi.json").json()
    assert set(described["paths"]) == {f"/v1/{name}" for name in ("generate", "caption", "ask", "roundtrip", "score", "model")} | {
        "/health",
        "/metrics",
    }
    answers = described["paths"]["/v1/caption"]["post"]["responses"]
    assert set(answers) == {"200", "400", "401", "403", "408", "409", "413", "422", "429", "503", "504"}
    assert all(
        answer["content"]["application/json"]["schema"]["$ref"].endswith("/Failed") for status, answer in answers.items() if status != "200"
    )
