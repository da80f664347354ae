"""The pages in a real browser: nothing is wider than a phone, nothing is refused by the page's own policy, every part can be reached."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mmcl.report.several import report_runs

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)")

LOOK = """
<script>
const page = atob("%s");
const frame = document.createElement("iframe");
frame.style = "width:%dpx;height:900px;border:0";
frame.srcdoc = new TextDecoder().decode(Uint8Array.from(page, c => c.charCodeAt(0)));
frame.onload = () => {
  const d = frame.contentDocument, root = d.documentElement, w = frame.contentWindow;
  d.querySelectorAll("details").forEach(one => one.open = true);
  const shown = [...d.querySelectorAll(".picture svg")].filter(s => w.getComputedStyle(s).display !== "none");
  const box = s => s.getBoundingClientRect();
  const away = [...d.querySelectorAll("nav a")].filter(a => !d.querySelector(a.getAttribute("href"))).length;
  const spill = [...d.querySelectorAll("p, h1, h2, h3, dd, figure")].filter(e => box(e).right > root.clientWidth + 1).map(e => e.outerHTML.slice(0, 80));
  const cut = shown.flatMap(s => [...s.querySelectorAll("text")].filter(t => box(t).left < box(s).left - 1 || box(t).right > box(s).right + 1)
    .map(t => t.textContent));
  const label = [...d.querySelectorAll(".picture")].filter(p => !p.getAttribute("aria-label")).length;
  const paper = w.getComputedStyle(d.body).backgroundColor, ink = w.getComputedStyle(d.body).color;
  const unknown = shown.filter(s => [...s.querySelectorAll("[style*='var(--']")].some(e => {
    const name = e.getAttribute("style").match(/var\\((--[\\w-]+)\\)/)[1];
    return !w.getComputedStyle(root).getPropertyValue(name);
  })).length;
  const out = document.createElement("pre");
  out.id = "measured";
  out.textContent = JSON.stringify({wide: root.scrollWidth - root.clientWidth, shown: shown.length, pictures: d.querySelectorAll(".picture").length,
    small: shown.filter(s => box(s).width < 100 || box(s).height < 40).length, away, spill, cut, label, paper, ink, unknown});
  document.body.append(out);
};
document.body.append(frame);
</script>
"""


@pytest.fixture(scope="module")
def pages(pair, tmp_path_factory):
    """A report, and a page of two runs."""
    return {"report": pair[0] / "report.html", "runs": report_runs(pair, tmp_path_factory.mktemp("browser") / "runs.html")}


def look(page: Path, width: int, tmp_path: Path, dark: bool = False) -> dict[str, object]:
    """What a browser makes of a page that wide."""
    outer = tmp_path / f"look-{width}.html"
    text = base64.b64encode(page.read_bytes()).decode()
    outer.write_text(f"<!doctype html><meta charset=utf-8><body>{LOOK % (text, width)}", encoding="utf-8")
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={tmp_path / f'profile-{width}-{dark}'}",
            "--window-size=1400,1000",
            *(["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []),
            "--virtual-time-budget=8000",
            "--dump-dom",
            outer.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    written = re.search(r'<pre id="measured">(.*?)</pre>', done.stdout, re.DOTALL)
    assert written, done.stderr[-500:]
    measured: dict[str, object] = json.loads(written[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))
    return measured


@pytest.mark.parametrize("which", ["report", "runs"])
@pytest.mark.parametrize("width", [390, 1200])
def test_a_page_fits_a_phone_and_a_desk(pages, which, width, tmp_path):
    measured = look(pages[which], width, tmp_path)
    assert measured["wide"] == 0, "the page itself must not scroll sideways"
    assert measured["spill"] == []
    assert measured["cut"] == [], "words that reach beyond their picture are cut"
    assert measured["pictures"] == measured["shown"] > 3, "of each picture's two drawings exactly one is shown"
    assert measured["small"] == measured["away"] == measured["label"] == measured["unknown"] == 0


def test_dark_is_dark(pages, tmp_path):
    def light(colour: object) -> float:
        return sum(int(v) for v in re.findall(r"\d+", str(colour))[:3]) / 765

    day, night = look(pages["report"], 900, tmp_path), look(pages["report"], 900, tmp_path, dark=True)
    assert light(day["paper"]) > 0.8 > 0.3 > light(day["ink"])
    assert light(night["paper"]) < 0.2 < 0.7 < light(night["ink"])
    assert night["unknown"] == 0
