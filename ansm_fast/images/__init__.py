"""Image files: the one place where they are read, told apart, and written.

- ``read``: a file with everything that must survive (``Photograph``), strictly; for ``defend``.
- ``pixels``: pixels alone, as stored, 8-bit RGB; for training, evaluation and attacks.
- ``masks``: which pixels of a mask file are forged.
- ``write``: PNG, WebP and TIFF, with everything (``png_encode``, ``webp``, ``tiff_encode``).
- ``atomic``: any file, whole or not at all.
- ``find``: the images of a folder; ``tensors``: arrays to tensors and back.

Nothing here changes OpenCV's settings for the process.
"""
