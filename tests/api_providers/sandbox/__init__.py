"""Tests of the sandbox twins."""
