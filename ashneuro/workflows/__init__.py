"""The work of every verb as functions: values in, values out, progress through a callback."""
