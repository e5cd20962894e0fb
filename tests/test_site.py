"""The site: it builds without a warning, its links lead somewhere, and it asks nobody else."""

import html
import http.server
import os
import re
import subprocess
import sys
import threading
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from unicodedata import normalize
from urllib.parse import unquote, urldefrag, urlparse

import pytest
from fontTools.ttLib import TTFont

from lab.browser import Browser
from support.pages import DOCS, ROOT

WRITTEN = {path.relative_to(DOCS).with_suffix(".html").as_posix() for path in DOCS.rglob("*.md")}
PAGES = sorted(WRITTEN - {"results/summary.html"})  # which belongs to the comparison
SCREENS = ((1280, "light"), (390, "dark"), (390, "light"), (1280, "dark"))


class Page(HTMLParser):
    """What a page names: its anchors, its links, and what it loads by itself."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(given["href"])
        elif given.get("src"):
            self.loads.append(given["src"])


SOURCES = (
    "docs", "website", "src", "mkdocs.yml", "README.md", "CHANGELOG.md", "benchmarks", "examples",
)  # fmt: skip


def built():
    """Whether `make docs` has built the site, and no source has changed since."""
    stamp = ROOT / "build" / "site.built"
    found = [path for name in SOURCES for path in (ROOT / name, *(ROOT / name).rglob("*"))]
    files = [path for path in found if path.is_file() and path.suffix != ".pyc"]
    newest = max(path.stat().st_mtime for path in files)
    return stamp.exists() and stamp.stat().st_mtime > newest


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, as `make docs` builds it."""
    if built():
        return ROOT / "build" / "site"
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def address(site):
    """Where a server of this machine shows the site."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium = Browser(tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.driver.quit()


def test_every_link_leads_somewhere(site):
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert {path.relative_to(site).as_posix() for path in pages} >= set(PAGES)
    for path, page in pages.items():
        for link in [*page.links, *page.loads]:
            elsewhere = urlparse(link).scheme in ("http", "https", "data")
            if elsewhere or path.name == "404.html":
                continue
            file, anchor = urldefrag(link)
            target = (path.parent / unquote(file)).resolve() if file else path
            target = target / "index.html" if target.is_dir() else target
            assert target.exists(), f"{path.name}: {link}"
            if anchor and target in pages:
                assert unquote(anchor) in pages[target].anchors, f"{path.name}: {link}"


def test_no_page_names_another_host_to_load_from(site):
    for path in site.rglob("*.html"):
        assert not [load for load in Page(path).loads if urlparse(load).netloc], path
    for path in site.rglob("*.css"):
        assert "url(http" not in path.read_text(encoding="utf-8"), path


def test_pictures_are_small(site):
    pictures = [*(site / "ideas").glob("*.svg")]
    assert {picture.stem for picture in pictures} >= {"agd", "nero", "towers"}
    assert all(picture.stat().st_size < 100_000 for picture in pictures)


LOOK = """
const [scheme, done] = arguments;
const shown = () => document.body.dataset.mdColorScheme == "slate" ? "dark" : "light";
const look = tries => {
  if (shown() != scheme && tries) return setTimeout(look, 20, tries - 1);  // it follows, but later
  done({
    headings: document.querySelectorAll("h1").length,
    over: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    scheme: shown(),
    broken: [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src),
    raw: /\\\\[(\\[]|\\$\\$|```|--8<--/.test(document.querySelector("article").innerText),
  });
};
requestAnimationFrame(() => look(100));
"""


def test_every_page_is_whole_on_every_screen(address, browser):
    for page in PAGES:
        browser.open(f"{address}/{page}")
        drawn = page.startswith("ideas/")  # pictures follow the scheme, too
        for width, scheme in SCREENS if drawn else SCREENS[:2]:
            browser.show(width, scheme)
            seen = browser.driver.execute_async_script(LOOK, scheme)
            wanted = {"headings": 1, "over": 0, "scheme": scheme, "broken": [], "raw": False}
            assert seen == wanted, page
        assert browser.complaints() == [], page
        assert [url for url in browser.requests() if not url.startswith(address)] == [], page


def test_formulas_have_their_font(address, browser):
    browser.open(f"{address}/ideas/agd.html")
    loaded = browser.driver.execute_async_script(
        """
        const done = arguments[0];
        document.fonts.ready.then(fonts => done([...fonts].map(f => [f.family, f.status])));
        """
    )
    assert ["STIX Two Math", "loaded"] in [[name.strip('"'), status] for name, status in loaded]
    assert browser.ask("return document.querySelectorAll('math').length") > 50
    assert browser.ask("return document.querySelectorAll('merror').length") == 0


def test_the_font_has_every_letter_of_the_formulas(site):
    cmap = TTFont(site / "assets" / "math.woff2").getBestCmap()
    text = "".join(path.read_text(encoding="utf-8") for path in (site / "ideas").glob("*.html"))
    shown = "".join(re.findall(r"<m[ion]\b[^>]*>([^<]*)</m", html.unescape(text)))
    assert set("G+√") <= set(shown) | {"√"} <= set(map(chr, cmap))
    alone = re.findall(r"<mi>(\w)</mi>", text)  # browsers show these in italics
    italics = {normalize("NFKC", chr(code)) for code in cmap if code > 0x1D400 or code == 0x210E}
    assert set(map(partial(normalize, "NFKC"), alone)) - {"∂"} <= italics


def test_the_search_finds_an_option_in_the_reference(address, browser):
    browser.open(f"{address}/index.html")
    found = browser.driver.execute_async_script(
        """
        const done = arguments[0], query = document.querySelector("input[name=query]");
        document.querySelector("#__search").checked = true;
        query.focus();
        query.value = "skipped_steps";
        query.dispatchEvent(new Event("keyup"));
        const look = () => {
          const links = [...document.querySelectorAll(".md-search-result__link")];
          links.length ? done(links.map(link => link.href)) : setTimeout(look, 100);
        };
        look();
        """
    )
    assert any("reference/optimizers.html" in link for link in found)
