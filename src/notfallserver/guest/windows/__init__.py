"""Adaptation of Windows images: hives' logs -> read -> plan (pure) -> apply.

Windows keeps in its registry (files called hives) what Linux keeps in /etc and in the initramfs. A
hive on a disk is seldom complete: what its transaction logs hold is replayed first. Only
:mod:`hive` needs hivex; all that decides is pure and runs anywhere.
"""
