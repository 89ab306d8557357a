"""Every kind of page in a browser: no error, no network, nothing that axe-core finds."""

import html
import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from trainopt.reports import report

RESULTS = Path(__file__).parents[2] / "results"
DRAWN = ["memory", "speed", "theory", "digits-softmax", "deep"]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
AXE = importlib.util.find_spec("axe_core_python")

# Put before all else on the page: what goes wrong is kept. Put last: what axe-core finds.
WATCH = """<script>
const faults = [];
addEventListener("error", (event) => faults.push(event.message || String(event.target.src)), true);
for (const level of ["error", "warn"]) console[level] = (...what) => faults.push(what.join(" "));
</script>"""
CHECK = """<script>
addEventListener("load", async () => {
  const found = {};
  const boxes = [...document.querySelectorAll("#names input")];
  const lines = () => document.querySelectorAll(".chart .scatterlayer .trace").length;
  if (boxes.length) {
    const before = lines();
    boxes.find((box) => box.checked).click();
    found.hidden = before - lines();
  }
  const axe = await window.axe.run({ resultTypes: ["violations"] });
  const places = (nodes) => nodes.slice(0, 3).map((node) => node.html);
  found.violations = axe.violations.map(({ id, help, nodes }) => [id, help, places(nodes)]);
  found.requests = performance.getEntriesByType("resource").map((entry) => entry.name);
  found.wider = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  found.faults = faults;
  document.body.textContent = "FOUND" + JSON.stringify(found) + "DNUOF";
});
</script>"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Every kind of report, drawn again, and the committed ones that take long to draw."""
    folder = tmp_path_factory.mktemp("pages")
    drawn = {}
    for name in DRAWN:
        shutil.copytree(RESULTS / name, folder / name)
        report(folder / name)
        drawn[name] = (folder / name / "report.html").read_text()
    for name in ("convex", "secant"):
        drawn[name] = (RESULTS / name / "report.html").read_text()
    return drawn


def test_a_report_says_first_what_was_found(pages):
    for name, page in pages.items():
        body = page[page.index("<main>") :]
        assert re.match(r'<main>\s*<h1>[^<]+</h1>\s*<div class="verdict"><p>[^<]{20,}', body), name
        assert body.index("<table>") < body.index("How it was made")
        asked = re.sub(r"<script.*?</script>", "", page, flags=re.S)
        assert not re.search(r"(src|href)=.(?!data:)", asked), name
        assert not re.search(r'<img[^>]*alt=""', asked)
        assert asked.count("<table>") == asked.count("<caption>")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")
@pytest.mark.skipif(AXE is None, reason="axe-core-python is not installed")
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", [*DRAWN, "convex", "secant"])
def test_a_browser_finds_no_fault(pages, name, width, tmp_path, start):
    axe = Path(AXE.submodule_search_locations[0], "axe.min.js").read_text()
    page = pages[name].replace("<head>", f"<head>{WATCH}", 1)
    page = page.removesuffix("</html>\n") + f"<script>{axe}</script>{CHECK}</html>\n"
    (tmp_path / "page.html").write_text(page)
    found = in_browser(tmp_path, width, start)
    assert found["faults"] == []
    assert [url for url in found["requests"] if not url.startswith("data:")] == []
    assert found["violations"] == []
    assert found["wider"] <= 0
    if name in ("digits-softmax", "convex"):
        assert found["hidden"] > 0


def in_browser(folder, width, start):
    browser = start(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
            "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900",
            "--virtual-time-budget=60000", (folder / "page.html").as_uri(),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    seen, _ = browser.communicate()
    return json.loads(html.unescape(re.search("FOUND(.*)DNUOF", seen, re.S).group(1)))
