"""Applications stand still while the filesystems freeze, so that a version holds whole data.

``settings`` says what is wanted, ``find`` what runs here, ``recipes`` how ready-made ones are held,
``plan`` puts these together; ``keeper`` is the process that holds and lets go, ``hold`` the agent's
side of it, ``leftovers`` what a killed keeper left standing.
"""
