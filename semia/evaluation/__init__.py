"""Judging pictures: figures, the judge; needs the extra ``evaluation``."""
