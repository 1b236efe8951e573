"""ASH-Nets, one explicit reading of the abstract: concrete, abstract and text encoder, fusion, twins."""
