"""A planned handover: all that works here is shut down, the last version read, the machine put off.

``units`` says what is shut down (pure), ``services`` does it and takes it back, ``listeners`` looks
whether anybody can still be reached, ``note`` is what an agent that was killed finds, ``departure``
puts it together up to the last message, ``off`` switches the machine off, whatever is in the way.
"""
