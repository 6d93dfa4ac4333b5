"""bench/keytree.png: octets of a leave by the number of members, beside those of n unicasts."""

import io

from .results import Missing


def draw(found: list[tuple[int, int, int]], unicast: int, degree: int) -> bytes:
    """A PNG. found: (members, octets of wrapped keys, octets of all datagrams); unicast: octets of
    a message to one member. Missing where nothing can draw."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise Missing("matplotlib is not installed") from None
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    counts = [count for count, _, _ in found]
    by_unicast = [(count - 1) * unicast for count in counts]
    axes.loglog(counts, by_unicast, "s--", label="new keys to each by unicast")
    axes.loglog(counts, [both for _, _, both in found], "o-", label="both messages of a removal")
    axes.loglog(counts, [octets for _, octets, _ in found], "^-", label="wrapped keys in them")
    axes.set_xlabel("members of the group")
    axes.set_ylabel("octets sent when one of them is put out")
    axes.set_title(f"Cost of a leave: key tree of degree {degree}, and n unicasts (measured)")
    axes.margins(y=0.08)
    axes.grid(True, which="major", alpha=0.4)
    for count, octets, both in (found[0], found[-1]):
        axes.annotate(
            f"{octets:,}", (count, octets), (0, -14), textcoords="offset points", ha="center"
        )
        axes.annotate(f"{both:,}", (count, both), (0, 8), textcoords="offset points", ha="center")
    top = f"{by_unicast[-1]:,}"
    axes.annotate(
        top, (counts[-1], by_unicast[-1]), (-8, 0), textcoords="offset points", ha="right"
    )
    axes.legend(loc="upper left")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()
