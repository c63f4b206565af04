"""What requests and answers look like; the OpenAPI description is made of these."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Answered", "Captioned", "Captions", "Failure", "Generated", "Health", "Told"]

#: Characters of a text.
LONGEST = 2_000
#: Pictures, or captions, of one request; and drawings that the best is chosen from.
MOST, MOST_DRAWN = 16, 64

Text = Annotated[
    str, Field(min_length=1, max_length=LONGEST, description="A text.", examples=["a small red circle left of a big blue square"])
]
File = Annotated[
    str,
    Field(
        min_length=1,
        description="A PNG, JPEG, WebP, GIF or BMP file in base64, with or without data:image/…;base64, before it; any size and mode.",
        json_schema_extra={"contentEncoding": "base64"},
    ),
]
Seed = Annotated[int, Field(ge=0, lt=2**31, description="Of what is drawn by chance; equal requests of one seed have equal answers.")]
Temperature = Annotated[float, Field(ge=0, le=100, description="How much chance counts; 0 takes the likeliest each time.")]
TopP = Annotated[float, Field(gt=0, le=1, description="Words are drawn from the likeliest that have this probability together.")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class GenerateRequest(_Strict):
    """Draw pictures for a text."""

    text: Text
    n: int = Field(1, ge=1, le=MOST, description="Pictures, each with other noise.")
    seed: Seed = 0
    best_of: int = Field(1, ge=1, le=MOST_DRAWN, description="Draw so many for each picture, and keep the best.")
    by: Literal["reading", "agreement"] = Field(
        "reading", description="What the best is chosen by: log p(text | drawing), or the agreement of both."
    )
    guidance: float | None = Field(None, ge=0, le=100, description="How much the text counts, where the decoder has it.")
    temperature: Temperature | None = None
    steps: int | None = Field(None, ge=1, le=1_000, description="Steps of drawing, where the decoder has them.")

    @model_validator(mode="after")
    def _bounded(self) -> GenerateRequest:
        if self.n * self.best_of > MOST_DRAWN:
            raise ValueError(f"n · best_of = {self.n * self.best_of}: at most {MOST_DRAWN} drawings a request")
        return self


class CaptionRequest(_Strict):
    """Describe an image."""

    image: File
    n: int = Field(1, ge=1, le=MOST, description="So many captions, the likeliest first; more than one are searched for, not drawn.")
    seed: Seed = 0
    temperature: Temperature = 0.0
    top_p: TopP = 1.0
    beams: int | None = Field(
        None, ge=1, le=MOST, description="Texts that are followed at once to find the likeliest; the recipe's when left out."
    )
    length_exponent: float | None = Field(
        None, ge=0, le=10, description="Texts are compared by log p / length^exponent; the recipe's when left out."
    )

    @model_validator(mode="after")
    def _one_way(self) -> CaptionRequest:
        if self.temperature and (self.n > 1 or (self.beams or 1) > 1):
            raise ValueError("temperature with n or beams: texts are either drawn or searched for")
        return self


class AskRequest(_Strict):
    """Answer a question about an image, or invent one and answer it."""

    image: File
    question: Text | None = Field(None, description="Left out, the model asks.")
    seed: Seed = 0
    temperature: Temperature = Field(1.0, description="Of the question that the model invents.")


class RoundTripRequest(_Strict):
    """From a text, or from an image, once round: exactly one of the two."""

    text: Text | None = None
    image: File | None = None
    seed: Seed = 0

    @model_validator(mode="after")
    def _one(self) -> RoundTripRequest:
        if (self.text is None) == (self.image is None):
            raise ValueError("expected text or image, one of the two")
        return self


class ScoreRequest(_Strict):
    """How well an image and a text fit."""

    image: File
    text: Text


class Answer(BaseModel):
    """What every answer has."""

    notices: list[str] = Field([], description="What one should know of it: words that the model never saw, a text that was cut.")


class Picture(BaseModel):
    """A picture."""

    png: str = Field(description="A PNG file in base64.", json_schema_extra={"contentEncoding": "base64"})
    width: int
    height: int


class Generated(Answer):
    """The pictures."""

    images: list[Picture]
    seed: int
    chosen_by: str | None = Field(None, description="What the best of several drawings was chosen by; null where one was drawn.")


class Captioned(BaseModel):
    """A caption."""

    text: str
    log_p: float | None = Field(None, description="log p(text | image) in nats; null where it was not asked for (n = 1).")


class Captions(Answer):
    """The captions, the likeliest first."""

    captions: list[Captioned]


class Answered(Answer):
    """A question and the model's answer."""

    question: str
    answer: str
    asked_by: Literal["user", "model"]


class Leg(BaseModel):
    """What one part of the model made of what came before it."""

    part: Literal["input", "image_decoder", "text_decoder"] = Field(description="Who made it: the user, or the part that drew or wrote.")
    text: str | None = None
    image: Picture | None = None


class RoundTripped(Answer):
    """The way round, leg by leg."""

    legs: list[Leg]


class Scored(Answer):
    """In nats; null where the model has no such figure."""

    text_given_image: float | None = Field(description="log p(text | image)")
    image_given_text: float | None = Field(description="log p(image | text)")
    image_kind: Literal["exact", "bound"] | None = Field(
        description="What image_given_text is: exact, or at most log p on average over noise."
    )
    image_of: str | None = Field(description="What it is of: images, or the tokens or latents that they are made of.")
    agreement: float | None = Field(description="How near the latents of both are, in [-1, 1].")


class Operation(BaseModel):
    """Something that is asked of a model."""

    available: bool
    reason: str | None = Field(None, description="Why this model cannot.")


class Told(BaseModel):
    """The model that is served."""

    name: str
    image: tuple[int, int, int] = Field(description="The images that it draws: height, width, channels.")
    operations: dict[str, Operation]
    options: list[str] = Field(description="What of guidance, temperature and steps its image decoder has.")
    limits: dict[str, int] = Field(
        description="body: bytes of a request; pixels: of an image; text: characters; images: pictures of a request."
    )
    examples: list[str] = Field(description="Texts of its data to begin with.")


class Health(BaseModel):
    """Whether it serves."""

    status: Literal["ok", "stopping"]
    waiting: int = Field(description="Requests that wait for their turn.")
    version: str


class Failure(BaseModel):
    """Why there is no answer."""

    code: str = Field(description="A word for programs: invalid, too_large, busy, late, stopping, cannot, unauthorised, …")
    message: str = Field(description="What is wrong, and what would be right.")


class Failed(BaseModel):
    """The form of every error."""

    error: Failure
