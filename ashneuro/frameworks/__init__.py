"""Modules of other frameworks as NIR graphs: one adapter per framework, and the trace of a run."""
