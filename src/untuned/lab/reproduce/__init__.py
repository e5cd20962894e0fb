"""Figures and tables of the papers, trained again."""
