"""Reports: what is said of runs (`wording`), how it is drawn, and the forms that it is written in."""
