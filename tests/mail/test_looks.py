"""How the shipped templates look: in a browser, narrow and wide, by day and by night."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from jobs.handlers.mail.render import render
from tests.mail.samples import SAMPLES
from tests.support.chromium import browser as started_browser

# Every text and the colour behind it: by WCAG 2.2, 1.4.3, 4.5 to 1 can be read.
CONTRASTS = """() => {
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor;
    if (!c.endsWith(', 0)')) return c; } return 'rgb(255, 255, 255)'; };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !e.getClientRects().length) continue;
    const a = light(getComputedStyle(e).color), b = light(behind(e));
    found.push([walk.currentNode.data.trim(),
      (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started_browser() as started:
        yield started


@pytest.mark.parametrize(
    ("scheme", "width"),
    [
        ("dark", 390),
        ("light", 700),
        pytest.param("light", 390, marks=pytest.mark.slow),
        pytest.param("dark", 700, marks=pytest.mark.slow),
    ],
)
def test_every_template_fits_and_can_be_read(browser: Browser, scheme: str, width: int) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme=scheme,  # type: ignore[arg-type]
    )
    page = context.new_page()
    for name, data in SAMPLES.items():
        page.set_content(render(name, data, brand="StormCom").html or "")
        contrasts = page.evaluate(CONTRASTS)

        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert len(contrasts) > 4, name
        assert [each for each in contrasts if each[1] < 4.5] == [], name
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (dark == "rgb(17, 20, 24)") is (scheme == "dark"), name
        if width == 700:
            assert page.locator(".card").bounding_box()["width"] <= 600, name  # type: ignore[index]
    context.close()
