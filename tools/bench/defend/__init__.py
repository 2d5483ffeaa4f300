"""``ansm-fast defend`` beside what one would write by hand: ``python -m tools.bench defend``.

photographs  images that look like photographs, from a seed
peers        scripts that one would write by hand
child        one measurement, in a process of its own
suite        the cases, in turns, into a file
picture      the file as a table and a picture
"""
