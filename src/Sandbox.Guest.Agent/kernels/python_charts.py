"""The data of a figure's charts, read from its axes: application/vnd.sandbox.chart+json. See docs/guest-protocol.md for its form."""
import json
import re
import sys

_values = sys.modules["_sandbox_values"] if "_sandbox_values" in sys.modules else sys.modules["_sandbox_rich"].beside("values")
plain = _values.plain

# Points of one line, elements of one chart, charts of one figure, and bytes of the whole.
MAX_POINTS = 2000
MAX_ELEMENTS = 1000
MAX_CHARTS = 32
MAX_CHART = 128 * 1024


def remember_boxes():
    """Box plots come down to lines; the numbers they were drawn from are kept on their axes."""
    from matplotlib.axes import Axes

    draw = Axes.bxp

    def bxp(self, bxpstats, *args, **kwargs):
        try:
            known = self.__dict__.setdefault("_sandbox_boxes", [])
            known.extend(dict(stats) for stats in bxpstats[: MAX_ELEMENTS - len(known)])
        except Exception:
            pass
        return draw(self, bxpstats, *args, **kwargs)

    bxp.__doc__, bxp.__wrapped__ = draw.__doc__, draw
    Axes.bxp = bxp


def chart_of(figure):
    """One chart, or several as a superchart; None where there is none. Thinned until it fits."""
    points = MAX_POINTS
    while points >= 16:
        charts = [c for c in (_chart(axes, points) for axes in figure.axes[: MAX_CHARTS * 2] if axes.get_visible() and axes.get_label() != "<colorbar>") if c][:MAX_CHARTS]
        title = getattr(figure, "_suptitle", None)
        title = plain(title.get_text()) if title is not None else ""
        if not charts:
            return None
        if len(charts) == 1:
            chart = charts[0]
            chart["title"] = chart["title"] or title
        else:
            chart = {"type": "superchart", "title": title, "elements": charts}
        if len(json.dumps(chart)) <= MAX_CHART:
            return chart
        points //= 4
    return None


def _chart(axes, most):
    if not axes.has_data():
        return None
    chart = {"type": "unknown", "title": plain(axes.get_title()), "elements": []}
    for kind, read in (("pie", _pie), ("box_and_whisker", _boxes), ("bar", _bars)):
        elements = read(axes)
        if elements:
            chart["type"] = kind
            if kind != "pie":
                _name_axes(chart, axes)
            return _filled(chart, elements)
    lines, scattered = _lines(axes, most), _scattered(axes, most)
    if not lines and not scattered:
        return chart
    chart["type"] = "line" if any(drawn for drawn, _ in lines) else "scatter"
    _name_axes(chart, axes)
    for name, axis, scale in (("x", axes.xaxis, axes.get_xscale()), ("y", axes.yaxis, axes.get_yscale())):
        ticks = _ticks(axis)
        chart[name + "_ticks"] = [_on(axis, tick) for tick, _ in ticks]
        chart[name + "_tick_labels"] = [label for _, label in ticks]
        chart[name + "_scale"] = "datetime" if _is(axis, "Date") else "categorical" if _is(axis, "Category") else str(scale)
    found = [element for _, element in lines] + scattered
    for number, element in enumerate(found):
        element["label"] = element["label"] or (f"{'Line' if chart['type'] == 'line' else 'Series'} {number + 1}")
    if any(element.pop("thinned") for element in found):
        chart["truncated"] = True
    return _filled(chart, found)


def _filled(chart, elements):
    chart["elements"] = elements[:MAX_ELEMENTS]
    if len(elements) > MAX_ELEMENTS:
        chart["truncated"] = True
    return chart


def _name_axes(chart, axes):
    for name, label in (("x", axes.get_xlabel()), ("y", axes.get_ylabel())):
        chart[name + "_label"] = plain(label)
        unit = re.search(r"[(\[]([^()\[\]]{1,32})[)\]]\s*$", label)
        if unit:
            chart[name + "_unit"] = unit.group(1)


def _label(artist):
    # Names that matplotlib makes up begin with an underscore.
    label = str(artist.get_label())
    return "" if label.startswith("_") else plain(label)


def _is(axis, what):
    converter = axis.get_converter() if hasattr(axis, "get_converter") else getattr(axis, "converter", None)
    return what in type(converter).__name__


def _ticks(axis):
    low, high = sorted(axis.get_view_interval())
    places = [p for p in axis.get_majorticklocs() if low <= p <= high][:MAX_ELEMENTS]
    return list(zip(places, [_untex(str(t)) for t in axis.get_major_formatter().format_ticks(places)]))


def _untex(label):
    """What matplotlib itself writes as formulas: powers of ten, and minus signs."""
    label = re.sub(r"\$\\mathdefault\{(.*)\}\$$", r"\1", label)
    return plain(re.sub(r"\^\{([^{}]*)\}", r"^\1", label).replace("\u2212", "-"))


def _on(axis, place):
    """What the user would call a place on an axis: a date, a category or the number."""
    if _is(axis, "Date"):
        from matplotlib.dates import num2date

        return plain(num2date(place).replace(tzinfo=None))
    if _is(axis, "Category") and axis.units is not None:
        for name, at in axis.units._mapping.items():
            if at == round(float(place)):
                return plain(name)
    return plain(place)


def _thin(pairs, most):
    step = -(-len(pairs) // most)
    return (pairs[::step], True) if step > 1 else (pairs, False)


def _lines(axes, most):
    from matplotlib.container import ErrorbarContainer

    found = []
    # Error bars name the whole, not the line.
    names = {id(c.lines[0]): _label(c) for c in axes.containers if isinstance(c, ErrorbarContainer) and c.lines[0] is not None}
    if "_sandbox_boxes" in axes.__dict__:
        return found
    for line in axes.lines[:MAX_ELEMENTS]:
        # Lines across the whole chart (axhline) are no data; nor are the ends of error bars.
        if line.get_transform() != axes.transData or not len(line.get_xdata()) or (_label(line) == "" and line.get_marker() in ("|", "_") and line.get_linestyle() == "None"):
            continue
        pairs, thinned = _thin(list(zip(line.get_xdata(orig=False), line.get_ydata(orig=False))), most)
        points = [[_on(axes.xaxis, x), _on(axes.yaxis, y)] for x, y in pairs]
        found.append((line.get_linestyle() not in ("None", " ", ""), {"label": names.get(id(line)) or _label(line), "points": points, "thinned": thinned}))
    return found


def _scattered(axes, most):
    from matplotlib.collections import PathCollection

    found = []
    for collection in [c for c in axes.collections if isinstance(c, PathCollection)][:MAX_ELEMENTS]:
        pairs, thinned = _thin(list(collection.get_offsets()), most)
        points = [[_on(axes.xaxis, x), _on(axes.yaxis, y)] for x, y in pairs]
        found.append({"label": _label(collection), "points": points, "thinned": thinned})
    return found


def _bars(axes):
    from matplotlib.container import BarContainer
    from matplotlib.ticker import FixedFormatter, FuncFormatter

    containers = [c for c in axes.containers if isinstance(c, BarContainer)]
    found = []
    for number, container in enumerate(containers):
        group = _label(container) or (f"Group {number + 1}" if len(containers) > 1 else "")
        across = getattr(container, "orientation", "vertical") == "horizontal"
        axis = axes.yaxis if across else axes.xaxis
        # Only names stand for bars; of numbers, the middle of the bar is nearer the truth than the next tick.
        named = _is(axis, "Category") or isinstance(axis.get_major_formatter(), (FixedFormatter, FuncFormatter))
        ticks = _ticks(axis) if named else []
        for bar in container.patches[: MAX_ELEMENTS + 1 - len(found)]:
            start, size = (bar.get_y(), bar.get_height()) if across else (bar.get_x(), bar.get_width())
            middle = start + size / 2
            # The tick that stands under the bar or nearest to it (bars of several groups stand beside theirs).
            near = min(ticks, key=lambda t: abs(t[0] - middle), default=None)
            if near is not None and near[1] and abs(near[0] - middle) <= abs(size) * len(containers) / 2 + 1e-9:
                label = near[1]
            else:
                place = _on(axis, middle)
                label = f"{place:g}" if isinstance(place, float) else str(place)
            found.append({"label": label, "group": group, "value": plain(bar.get_width() if across else bar.get_height())})
    return found


def _pie(axes):
    from matplotlib.patches import Wedge

    wedges = [p for p in axes.patches if isinstance(p, Wedge)]
    return [{"label": _label(w), "angle": plain(w.theta2 - w.theta1), "radius": plain(w.r)} for w in wedges[: MAX_ELEMENTS + 1]]


def _boxes(axes):
    stats = axes.__dict__.get("_sandbox_boxes", [])
    names = [label for _, label in _ticks(axes.xaxis)]
    found = []
    for number, box in enumerate(stats):
        label = box.get("label", "")
        label = plain(str(label)) if label not in (None, "") else names[number] if len(names) == len(stats) else str(number + 1)
        outliers = [plain(v) for v in list(box.get("fliers", []))[:MAX_ELEMENTS]]
        found.append({
            "label": label, "min": plain(box.get("whislo")), "first_quartile": plain(box.get("q1")), "median": plain(box.get("med")),
            "third_quartile": plain(box.get("q3")), "max": plain(box.get("whishi")), "outliers": outliers,
        })
    return found
