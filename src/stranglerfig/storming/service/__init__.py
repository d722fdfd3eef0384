"""A whole service out of a model: what follows from the model, and the files of a project that does it."""
