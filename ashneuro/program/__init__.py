"""The compiler: NIR in and out, check, lower, quantise, bundle."""
