"""Questions that join what several sections of a sweep have measured, from the rows of all."""
