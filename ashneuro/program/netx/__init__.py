"""lava-dl's network files."""
