"""How results show themselves in a notebook: the renderer is found in `ashneuro.reporting` when it is called."""
