"""The verbs: each parses its options, calls one workflow, and prints by `reporting.terminal`."""
