"""The matrix of systems and hardware: each case is made, adapted by the product, and booted."""
