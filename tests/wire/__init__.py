"""Tests of values that travel."""
