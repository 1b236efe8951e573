"""ASH-Nets, one explicit reading of the abstract: encoders, fusion, heads, and ANN controls."""
