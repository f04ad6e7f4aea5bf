"""Faults on purpose, at moments drawn by a seed, in builds whose bytes are known beforehand."""
