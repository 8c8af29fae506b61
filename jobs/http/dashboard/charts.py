"""Small charts drawn here, as SVG: nothing is needed to see them, and no style is written in."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

WIDTH, HEIGHT = 120, 24
_LEAST = 1.5  # a bar of a few among thousands is still seen

_GROUND = Markup('<line class="ground" x1="0" x2="{}" y1="{}" y2="{}"/>').format(
    WIDTH, HEIGHT - 0.5, HEIGHT - 0.5
)
_BAR = Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>')


def sparkline(good: Sequence[int], bad: Sequence[int], label: str) -> Markup:
    """Bars over time, oldest first: what completed, and on top of it what failed."""
    count = len(good)
    most = max((one + other for one, other in zip(good, bad, strict=True)), default=0)
    bars = [_GROUND]
    if most:
        step = WIDTH / count
        for place, (one, other) in enumerate(zip(good, bad, strict=True)):
            base = HEIGHT - 1.0
            for value, tone in ((one, "good"), (other, "bad")):
                if not value:
                    continue
                tall = max(_LEAST, value / most * (HEIGHT - 3))
                base -= tall
                bars.append(
                    _BAR.format(
                        tone,
                        f"{place * step + 0.5:.1f}",
                        f"{base:.1f}",
                        f"{max(1.0, step - 1):.1f}",
                        f"{tall:.1f}",
                    )
                )
    drawn = Markup().join(bars)
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" width="{}" height="{}" role="img" '
        'aria-label="{}">{}</svg>'
    ).format(WIDTH, HEIGHT, WIDTH, HEIGHT, label, drawn)
