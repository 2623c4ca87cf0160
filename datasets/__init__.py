"""Data sets. One file is one data set; few_shot.py and the files with a leading _ are shared."""
