"""Several processes, and who watches over them."""
