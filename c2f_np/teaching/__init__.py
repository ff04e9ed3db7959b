"""The course for a lecturer: a release without answers, marking of submissions, slides (docs/teaching.md)."""
