"""One file per port and technology. Adapters are strangers to each other and take plain arguments."""
