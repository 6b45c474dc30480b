"""The whole page on captured machines: no root, no disks, no guests. ``make page`` starts it.

::

    browser -> the real app, catalogue, jobs, journal, life cycle, guard's rules, duties
                     |                        |                     |
               PaperHypervisor           PaperWork            World: who is on, what is cut off
               (a screen of pictures)    (jobs in which       (agents and rescue media poll the
                                          only time passes)    real doors)

What stands behind the doors to the world is of paper, everything before them is the product. A part
that nobody simulates answers ``not-in-the-dry-run``. For designing and for tests, never installed.
"""
