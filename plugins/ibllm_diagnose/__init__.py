"""Looks for faults while a run goes on: which component gave the first number that is none."""
