"""Results for readers: tables, figures, one HTML page, JSON, notebooks."""
