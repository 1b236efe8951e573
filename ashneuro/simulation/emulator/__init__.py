"""Float64 graphs and bit-exact integer programs, on arrays."""
