"""``ibllm ask``: questions about images, answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ibllm.blocks.ends import told_of_ends

from .common import (
    device_option,
    examples,
    from_option,
    json_option,
    note,
    run_argument,
    seed_option,
    short,
    tell,
    texts_from,
    told_already,
    using,
)

EXAMPLES = examples(
    "ibllm ask runs/vqa a.png",
    'ibllm ask runs/vqa a.png "what colour is the circle?"',
    "ibllm ask runs/vqa a.png --from questions.txt --json",
)


@click.command(name="ask", epilog=EXAMPLES)
@run_argument
@click.argument("image", type=click.Path(path_type=Path, allow_dash=True))
@click.argument("questions", nargs=-1, metavar="[QUESTION]...")
@from_option("Questions, one a line")
@click.option(
    "-n",
    "number",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Questions to invent for each image, where none is given.",
)
@click.option(
    "--temperature", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Of invented questions: 0 asks the likeliest one."
)
@click.option(
    "--top-p",
    type=click.FloatRange(min=0, max=1, min_open=True),
    default=0.9,
    show_default=True,
    help="Of invented questions: words are drawn among the likeliest, which have this probability together.",
)
@seed_option
@device_option
@json_option
def command(
    run: Path,
    image: Path,
    questions: tuple[str, ...],
    file: Path | None,
    number: int,
    temperature: float,
    top_p: float,
    seed: int,
    device: str | None,
    as_json: bool,
) -> None:
    """Answer each QUESTION about IMAGE with the trained model of RUN, or without one invent a question and answer it.

    IMAGE may be a folder: every question is then asked of every image in it. Answers are the likeliest ones; questions are drawn by chance.
    """
    from .images import read, sources

    given = texts_from(questions, file, "question") if questions or file is not None else []
    items: list[dict[str, Any]] = []
    with using(run, device) as model, told_of_ends():
        model.require_questions()
        found = sources([image])
        for remark in model.remarks(given, "text_decoder") if given else ():
            note(remark)
        for chunk, pixels in read(model, found, "asking"):
            rounds = [[question] * len(chunk) for question in given] or [
                model.ask(list(pixels), seed=seed + again, temperature=temperature, top_p=top_p) for again in range(number)
            ]
            with told_already(model, given, "text_decoder"):
                answered = [model.answer(list(pixels), asked) for asked in rounds]
            items += [
                {"image": str(source.path), "question": asked[row], "answer": answers[row], "invented": not given}
                for row, source in enumerate(chunk)
                for asked, answers in zip(rounds, answered, strict=True)
            ]
    several = len({item["image"] for item in items}) > 1
    rows = [(*([item["image"]] if several else []), short(item["question"]), item["answer"]) for item in items]
    tell({"run": str(run), "seed": seed, "temperature": temperature, "top_p": top_p, "items": items}, rows, as_json)
