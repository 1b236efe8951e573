"""The work of every verb as functions from values to values; progress through a callback, nothing printed."""
