"""The parts of a comparison: contenders, groups, conventions of counting, break-even rates, the verdict."""
