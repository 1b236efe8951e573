"""A user's own ANN: its layers counted by the rules of the twin, its zeros measured on samples."""
