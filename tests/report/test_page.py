"""The page: one file, safe, honest, and there whatever a run left behind."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from ibllm_report import render

VOID = {"meta", "link", "img", "br", "hr"}
PIECES = ("run.json", "results.json", "metrics.jsonl", "recipe.toml", "samples/novel.json")


class Page(HTMLParser):
    """The elements of a page with their attributes, their texts, and what was not closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.marked: dict[str, list[str]] = {}
        self._mark = ""
        self.text = ""
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        self._mark = (dict(attrs).get("class") or "") if tag == "mark" else self._mark

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"
        self._mark = "" if tag == "mark" else self._mark

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["style"]:
            return
        self.text += data
        if self._mark:
            self.marked.setdefault(self._mark, []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="session")
def page(whole_run: Path) -> Page:
    return Page(whole_run / "report.html")


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
    assert not page.all("script")
    assert "@import" not in page.source
    assert "url(" not in page.source.replace("url(#", "")
    assert "http://" not in page.source
    assert "https://" not in page.source
    assert not page.open


def test_ids_are_unique_and_links_lead_somewhere(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {attributes["href"] for _, attributes in page.elements if (attributes.get("href") or "").startswith("#")}
    assert {target[1:] for target in targets if target} <= set(ids)


def test_texts_of_users_are_escaped(page: Page) -> None:
    assert "<script>alert(1)" not in page.source
    assert "<script>alert(1)</script>" in page.text


def test_pictures_and_plots_say_what_they_show(page: Page) -> None:
    assert page.all("img")
    assert all(image["alt"] for image in page.all("img"))
    assert page.all("svg")
    assert all(plot["role"] == "img" and plot["aria-label"] for plot in page.all("svg"))


def test_small_pictures_are_enlarged_by_whole_numbers(page: Page) -> None:
    image = page.all("img")[0]
    assert image["width"] == image["height"] == "128"
    assert "pixels" in (image["class"] or "")


def test_plots_take_their_colours_from_the_page(page: Page) -> None:
    source = page.source
    plots = source[source.index("<svg") : source.rindex("</svg>")]
    assert "currentColor" in plots
    assert "var(--s1)" in plots
    assert "#a000" not in plots
    assert "prefers-color-scheme: dark" in source


def test_words_that_differ_are_marked_unless_the_caption_is_right(page: Page) -> None:
    marked = page.marked
    assert "blue" in marked["wrong"]
    assert "red" in marked["left-out"]
    assert "蓝" in marked["wrong"]
    # The Chinese caption read off the real image says the same in another order, and the metric says that it is right.
    assert not any("一个红色的小圆形" in word for word in marked["wrong"])


def test_both_languages_are_there_with_their_codes(page: Page) -> None:
    assert {"en", "zh"} <= {attributes.get("lang") for attributes in page.all("span")}
    assert "左上角有一个红色的小圆形" in page.text


def test_self_agreement_is_never_shown_without_its_caution(page: Page) -> None:
    assert "not independent: the captioner's gradients trained the generator" in page.text
    shown = page.text.replace("\n", " ").lower()
    places = [k for k in range(len(shown)) if shown.startswith("self-agreement", k)]
    assert places
    for place in places:
        assert "not independent" in shown[place : place + 160], shown[place : place + 160]
    for plot in page.all("svg"):
        label = plot["aria-label"] or ""
        assert "self-agreement" not in label or "not independent" in label


def test_fractions_have_intervals_where_the_number_of_items_is_known(page: Page) -> None:
    assert "90.0 %" in page.text
    assert "87.1–92.3 %" in page.text  # Wilson, 0.9 of 512
    assert "something else" in page.text


def test_how_figures_were_measured_is_told(page: Page) -> None:
    assert "n 512, extractor random, ridge 0.01" in page.text
    assert "signature en <script>" in page.text


def test_the_run_is_accounted_for(page: Page) -> None:
    text = page.text
    for piece in (
        "ibllm==0.1.0",
        "text_encoder.transformer",
        "2.13.0",
        "a processor",
        "1 min 12 s",
        "went back to step 20",
        "CC BY-SA 4.0",
    ):
        assert piece in text, piece


@pytest.mark.parametrize("piece", PIECES)
def test_a_missing_piece_leaves_the_rest(make_run: Callable[..., Path], piece: str) -> None:
    page = Page(render(make_run(piece)))
    assert not page.open
    assert "Provenance" in page.text


def test_an_empty_directory_has_a_report(make_run: Callable[..., Path]) -> None:
    page = Page(render(make_run(*PIECES)))
    assert "no results" in page.text


def test_broken_pieces_are_left_out(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    for name in PIECES:
        (folder / name).write_text('{"name": [', encoding="utf-8")
    assert not Page(render(folder)).open


def test_pieces_of_other_shapes_are_left_out(make_run: Callable[..., Path]) -> None:
    strange = {
        "seed": 3,
        "stages": [{"name": "text", "done": None}, 4],
        "parts": None,
        "timings": [1],
        "hardware": "a box",
        "created": 1.7e9,
    }
    page = Page(render(make_run(run=strange)))
    assert not page.open
    assert "a box" in page.text


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such run directory"):
        render(tmp_path / "nowhere")


def test_an_interrupted_run_says_how_to_go_on(make_run: Callable[..., Path]) -> None:
    text = Page(render(make_run("results.json", run={"status": "interrupted", "finished": None}))).text
    assert "interrupted before its end" in text
    assert "--resume" in text


def test_samples_without_judgement_are_not_judged(make_run: Callable[..., Path]) -> None:
    items = [{"caption": "grinning face", "language": "en", "read": "grinning cat", "reread": "grinning face"}]
    page = Page(render(make_run(items=items)))
    assert {item.get("class") for item in page.all("li")}.isdisjoint({"no"})
    assert "caption wrong" not in page.text
    assert "cat" in page.marked["wrong"]


def test_a_picture_outside_the_samples_is_not_shown(make_run: Callable[..., Path]) -> None:
    page = Page(render(make_run(items=[{"caption": "a", "real": "../../secret.png", "generated": "gone.png", "read": "a"}])))
    assert not page.all("img")
    assert "no image" in page.text


def test_rendering_again_replaces_the_page(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    first = render(folder).read_bytes()
    assert render(folder).read_bytes() == first
    assert sorted(path.name for path in folder.glob("report*")) == ["report.html"]


def test_what_was_told_while_it_ran_is_on_the_page(make_run: Callable[..., Path]) -> None:
    more = {
        "notes": ["stage text trains 4 parameters that no loss reaches"],
        "notices": ["step-7 <is> passed over"],
        "resumed": [{"time": "", "step": 12, "changes": ["metrics.chrf is taken away"]}],
        "accepted_code": [{"their_package": "abc"}],
        "hardware_before": [{"device": "NVIDIA H100", "cpu": "a processor"}],
        "hooks": {"watcher": {"errors": [{"hook": "ibllm_step_ended", "error": "KeyError: 'x'"}]}},
        "output_lost": {"standard output": "No space left on device"},
    }
    text = render(make_run(run=more)).read_text(encoding="utf-8")
    for said in (
        "4 parameters that no loss reaches", "step-7 &lt;is&gt; passed over", "Resumed at step 12 with changes: metrics.chrf is taken away",
        "another state of their_package", "Trained on NVIDIA H100", "ibllm_step_ended of watcher raised KeyError", "No space left on device",
    ):  # fmt: skip
        assert said in text, said
