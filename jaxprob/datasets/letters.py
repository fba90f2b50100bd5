"""Letters drawn from fonts: images that no classifier of digits has ever seen."""

import numpy as np

from jaxprob.requirements import require_count

__all__ = ["letters"]

LETTERS = "ABCDEFGHJKLMNPQRTUVWXYZabdefghkmnrtwy"
"""None that is a digit's twin."""

FAMILIES = ("sans-serif", "serif", "monospace")


def letters(size: int = 8) -> np.ndarray:
    """Returns images of letters in matplotlib's fonts, each filling its height.

    Args:
      size: Height and width in pixels.

    Returns:
      `[N, size, size]` in [0, 1], ink being 1, as scikit-learn's digits divided by 16.

    Raises:
      ImportError: Without matplotlib, naming the extra.
    """
    require_count("letters", size=size)
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from PIL import Image
    except ImportError:
        raise ImportError(
            "datasets.letters needs matplotlib: pip install 'jaxprob[plot]'"
        ) from None
    images = []
    for family in FAMILIES:
        for letter in LETTERS:
            figure = Figure(figsize=(1, 1), dpi=100)
            canvas = FigureCanvasAgg(figure)
            figure.text(0.5, 0.5, letter, family=family, size=40, ha="center", va="center")
            canvas.draw()
            ink = 255 - np.asarray(canvas.buffer_rgba())[..., 0]
            rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
            cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            width = min(max(size // 3, round(size * cut.shape[1] / cut.shape[0])), size)
            small = np.asarray(Image.fromarray(cut).resize((width, size), Image.Resampling.BOX))
            image = np.zeros((size, size), np.float32)
            left = (size - width) // 2
            image[:, left : left + width] = small / small.max()
            images.append(image)
    return np.stack(images)
