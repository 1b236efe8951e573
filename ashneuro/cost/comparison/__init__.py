"""Parts of a comparison: contenders, groups, conventions, break-even rates, verdict."""
