"""Models from nothing: labelled networks made by the program itself, then the three models trained on them."""
