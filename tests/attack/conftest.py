"""A tiny run that has learnt nothing, to attack."""

from tests.use.conftest import run, shell, trained  # noqa: F401
