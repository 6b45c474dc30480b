"""Telling people: what is worth a notice, when, to whom (pure), and the sending of it.

This room knows neither words nor languages; the web has them and hands in a :class:`Reporter`.
"""
