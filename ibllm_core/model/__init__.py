"""The parts together: one batch on its way round, who plays when, what a recipe builds."""
