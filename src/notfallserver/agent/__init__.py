"""The program on a primary: reads its disks at one point in time and sends what changed.

Standard library and :mod:`notfallserver.wire` only, Python >= 3.9; shipped as one file.
"""
