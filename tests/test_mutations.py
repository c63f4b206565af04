"""The known ways of breaking the product (`tests.mutations`) still apply to it."""

from __future__ import annotations

import pytest

from tests.mutations import MUTATIONS, Mutation, flaws


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_it_can_be_made(mutation: Mutation) -> None:
    assert flaws(mutation) == ""
    assert mutation.old != mutation.new


def test_there_are_twenty_of_names_of_their_own() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 20
