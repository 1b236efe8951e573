"""The verbs: each function composes rooms and prints through `report`."""
