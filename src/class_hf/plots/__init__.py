"""Figures and tables of runs, studies, difficulty scores and searches."""
