"""Image–text pairs: sources, the field's file formats, splits, tokens, batches."""
