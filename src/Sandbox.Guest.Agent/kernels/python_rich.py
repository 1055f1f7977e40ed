"""What values look like beside their text: figures with the data of their charts, tables, images. Nothing is imported for it that the user has not imported."""
import importlib.abc
import importlib.util
import io
import os
import sys

CHART = "application/vnd.sandbox.chart+json"
TABLE = "application/vnd.sandbox.table+json"
PLOTLY = "application/vnd.plotly.v1+json"

# A picture and the data of its chart fit one result together.
MAX_PICTURE = 240 * 1024


def beside(name):
    """A module that lies beside this one: the user's own path is not searched for it."""
    known = sys.modules.get("_sandbox_" + name)
    if known is None:
        spec = importlib.util.spec_from_file_location("_sandbox_" + name, os.path.join(os.path.dirname(os.path.abspath(__file__)), f"python_{name}.py"))
        known = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(known)
    return known


# Figures this piece of code has displayed by itself.
_displayed = set()


def figure_png(figure):
    """The figure as PNG, coarser if it would be too large."""
    dpi = figure.dpi
    while True:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", bbox_inches="tight", dpi=dpi)
        if buffer.tell() <= MAX_PICTURE or dpi < 30:
            return buffer.getvalue()
        dpi = dpi * 0.7


def figure_bundle(figure):
    bundle = {"image/png": figure_png(figure)}
    try:
        chart = beside("charts").chart_of(figure)
        if chart is not None:
            bundle[CHART] = chart
    except Exception as exception:
        # The picture is there; what its artists are is anybody's guess.
        print(f"[sandbox] no chart data: {type(exception).__name__}: {exception}", file=sys.stderr)
    return bundle


def _displayed_figure(figure):
    _displayed.add(id(figure))
    return figure_bundle(figure), {}


def _frame(frame):
    return {TABLE: beside("values").table(frame)}, {}


def _series(series):
    frame = series.to_frame()
    return {TABLE: beside("values").table(frame), "text/html": frame._repr_html_()}, {}


def _image(image):
    def encode(how, **options):
        buffer = io.BytesIO()
        picture.save(buffer, how, **options)
        return buffer.getvalue()

    picture = image if image.mode in ("1", "L", "LA", "I", "P", "RGB", "RGBA") else image.convert("RGB")
    # The encoder gets no chance to make gigabytes of it first.
    if picture.width * picture.height > 16_000_000:
        picture = picture.copy()
        picture.thumbnail((4000, 4000))
    png = encode("PNG")
    if len(png) <= MAX_PICTURE:
        return {"image/png": png}, {}
    picture = picture.convert("RGB")
    jpeg = encode("JPEG", quality=85)
    while len(jpeg) > MAX_PICTURE and picture.width > 64:
        picture = picture.resize((max(1, picture.width * 2 // 3), max(1, picture.height * 2 // 3)))
        jpeg = encode("JPEG", quality=80)
    return {"image/jpeg": jpeg}, {}


def _plotly(figure):
    return {PLOTLY: figure.to_json()}, {}


def _nothing(value):
    return None


def _not_by_itself(value):
    raise NotImplementedError


def register(formatter):
    """Teaches IPython's formatter, by names: a library that is not imported is not looked at."""
    bundles = formatter.mimebundle_formatter
    bundles.for_type_by_name("matplotlib.figure", "Figure", _displayed_figure)
    bundles.for_type_by_name("pandas.core.frame", "DataFrame", _frame)
    bundles.for_type_by_name("pandas.core.series", "Series", _series)
    bundles.for_type_by_name("PIL.Image", "Image", _image)
    bundles.for_type_by_name("plotly.basedatatypes", "BaseFigure", _plotly)
    # What these have of their own would come beside it, without a bound, or instead of it.
    for mime in ("image/png", "image/jpeg"):
        formatter.formatters[mime].for_type_by_name("PIL.Image", "Image", _nothing)
    formatter.ipython_display_formatter.for_type_by_name("plotly.basedatatypes", "BaseFigure", _not_by_itself)


class _WhenPyplotComes(importlib.abc.MetaPathFinder):
    """`show()` shows and closes what is open, at once, as in a notebook; and box plots keep their numbers, which their lines do not tell."""

    def __init__(self, shown):
        self.shown = shown

    def find_spec(self, name, path, target=None):
        if name != "matplotlib.pyplot":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            module.show = lambda *args, **kwargs: show_figures(self.shown)
            beside("charts").remember_boxes()

        spec.loader.exec_module = exec_module
        return spec


def watch(shown):
    """`shown` gets the bundle of each figure that is to be seen."""
    sys.meta_path.insert(0, _WhenPyplotComes(shown))


def show_figures(shown):
    """Figures that were drawn are results, as in a notebook; then they are closed, and not shown again."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return
    try:
        for number in pyplot.get_fignums():
            figure = pyplot.figure(number)
            if id(figure) not in _displayed:
                shown({**figure_bundle(figure), "text/plain": repr(figure)})
    finally:
        close_figures()


def close_figures():
    _displayed.clear()
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")
