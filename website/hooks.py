"""What the site adds to mkdocs: mathematics without scripts, and code shown from its source.

Mathematics is written as TeX between dollars and becomes MathML when the site is built, with a
part of STIX Two Math, the font, that has just the letters that the site uses. A fence

    ```python source=untuned.rules.agd.AGD.update
    ```

is filled with that function as it stands in the library, under the name of its file.
"""

import functools
import html
import re
import unicodedata
from importlib.metadata import distribution
from pathlib import Path

import griffe
from fontTools import subset
from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

ROOT = Path(__file__).parents[1]
TEX = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
SOURCE = re.compile(r"^```python source=(\S+)\n```", re.MULTILINE)
NORM = "<mo>&#x02016;</mo>"  # would stretch beyond what it encloses
FONT = "assets/math.woff2"

letters = {"\N{SQUARE ROOT}"}  # drawn, though no element has it as text
# Browsers show <mi>d</mi> by these: mathematical italics, Latin and Greek, and Planck's h
ITALICS = [chr(code) for code in (*range(0x1D434, 0x1D468), 0x210E, *range(0x1D6E2, 0x1D71C))]


@functools.cache
def library():
    return griffe.load("untuned", search_paths=[ROOT / "src"])


def on_page_markdown(markdown, page, config, files):
    """Fill the fences that name a source."""

    def filled(match):
        name = match[1]
        try:
            thing = library()[name.removeprefix("untuned.")]
        except KeyError as error:
            raise PluginError(f"{page.file.src_uri}: there is no {name}") from error
        path = thing.filepath.relative_to(ROOT)
        return f'```python title="{path}"\n{thing.source}\n```'

    return SOURCE.sub(filled, markdown)


def on_page_content(content, page, config, files):
    """Turn TeX into MathML."""

    def rendered(match):
        display = "block" if match[1] == "div" else "inline"
        mathml = convert(html.unescape(match[2]).strip(), display=display)
        mathml = mathml.replace(NORM, NORM.replace("<mo>", '<mo stretchy="false">'))
        letters.update(html.unescape(mathml))
        return mathml

    return TEX.sub(rendered, content)


def plain(letter):
    return unicodedata.normalize("NFKC", letter)


def on_post_build(config):
    """Write the font, cut down to the letters used."""
    upright = set(map(plain, letters))
    wanted = letters.union(letter for letter in ITALICS if plain(letter) in upright)
    options = subset.Options(flavor="woff2", layout_features=["*"], notdef_outline=True)
    whole = distribution("ziamath").locate_file("ziamath/fonts/STIXTwoMath-Regular.ttf")
    font = subset.load_font(str(whole), options)
    cutter = subset.Subsetter(options)
    cutter.populate(text="".join(sorted(wanted)))
    cutter.subset(font)
    subset.save_font(font, str(Path(config.site_dir) / FONT), options)
