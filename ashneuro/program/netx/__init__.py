"""lava-dl's network exchange files (netx)."""
