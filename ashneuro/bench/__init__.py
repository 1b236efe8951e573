"""How fast it is here: speeds of one machine, compared within one run."""
