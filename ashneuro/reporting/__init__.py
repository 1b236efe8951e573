"""Everything that a person reads: terminal tables, figures, one HTML page, JSON."""
