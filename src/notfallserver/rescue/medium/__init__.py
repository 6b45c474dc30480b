"""The recipe of the rescue system; ``server/rescue_medium.py`` follows it."""
