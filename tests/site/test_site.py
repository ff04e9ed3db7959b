"""The documentation site, built with warnings as errors and opened in a real browser, on a desktop and on a phone."""

import contextlib
import functools
import http.server
import importlib
import pkgutil
import re
import threading
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin

import pytest

import c2f_np

pytestmark = pytest.mark.slow
DESKTOP, PHONE = 1280, 360
#: What a page says of itself once it and its formulas are laid out.
LOOK = r"""async () => {
  await document.fonts.ready;
  if (window.MathJax?.startup) await MathJax.startup.promise;
  const shown = document.querySelector("article, main, body").cloneNode(true);
  shown.querySelectorAll("pre, code, script, style, mjx-container").forEach(each => each.remove());
  return {
    raw: shown.textContent.match(/.{0,20}(\$\$|:::|\\[a-zA-Z]{2,}|\\[()\[\]]).{0,20}/g) || [],
    waiting: [...document.querySelectorAll(".math")].filter(each => !each.querySelector("mjx-container")).length,
    wrong: [...document.querySelectorAll("mjx-merror, merror")].map(each => each.textContent),
    formulas: document.querySelectorAll("mjx-container").length,
    images: [...document.images].filter(each => each.complete && !each.naturalWidth).map(each => each.src),
  };
}"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Nothing."""

    def do_GET(self):
        if self.path == "/favicon.ico":  # browsers ask for it unasked
            self.send_response(http.HTTPStatus.NO_CONTENT)
            return self.end_headers()
        return super().do_GET()

    def end_headers(self):
        """What pages share is fetched and read once."""
        self.send_header("Cache-Control", "max-age=3600")
        super().end_headers()


@contextlib.contextmanager
def served(folder):
    """The address of a server on this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def pages(site):
    """Every page, as a path in the site."""
    return sorted(page.relative_to(site).as_posix() for page in site.rglob("*.html") if "_static" not in page.parts)


def visit(browser, address, names):
    """What each page says of itself, and what went wrong on it; the browser finds no other host."""
    page = browser.new_page()
    trouble, found = [], {}
    page.on("console", lambda message: message.type in ("error", "warning") and trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("requestfailed", lambda request: trouble.append(f"failed: {request.url}"))
    page.on("response", lambda response: response.status >= 400 and trouble.append(f"{response.status}: {response.url}"))
    for name in names:
        trouble.clear()
        page.set_viewport_size({"width": DESKTOP, "height": 800})
        page.goto(address + name)
        look = page.evaluate(LOOK)
        page.set_viewport_size({"width": PHONE, "height": 640})
        wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        found[name] = look | {"wider": max(wider, 0), "trouble": list(trouble)}
    page.close()
    return found


@pytest.mark.parametrize("part", range(4))
def test_every_page_in_a_browser(site, browser, part):
    with served(site) as address:
        found = visit(browser, address, pages(site)[part::4])
    assert sum(page.pop("formulas") for page in found.values()) > 250
    wrong = {name: {what: seen for what, seen in page.items() if seen} for name, page in found.items()}
    assert {name: seen for name, seen in wrong.items() if seen} == {}


def test_a_broken_page_is_noticed(tmp_path, browser):
    """The checks above see what they are made for."""
    (tmp_path / "bad.html").write_text(
        "<body>a raw \\frac{1}{2}<span class='math'>x</span><img src='none.png'><div style='width: 500px'>wide</div>"
        "<script src='https://example.org/x.js'></script><script>undefined.x</script></body>"
    )
    with served(tmp_path) as address:
        found = visit(browser, address, ["bad.html"])["bad.html"]
    assert found["raw"] and found["waiting"] == 1 and found["images"] and found["wider"] > 0
    said = "\n".join(found["trouble"])
    assert "example.org" in said and "none.png" in said and "undefined" in said


class Links(HTMLParser):
    """What a page links to, and what can be linked to in it."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.links += [given[name] for name in ("href", "src") if given.get(name)]
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}


def test_every_link_leads_somewhere(site):
    read = {name: Links((site / name).read_text(encoding="utf-8")) for name in pages(site)}
    broken = []
    for name, page in read.items():
        for link in page.links:
            target, anchor = urldefrag(unquote(urljoin(f"/{name}", link)))
            if re.match(r"[a-z]+:", target):
                continue
            target = target.split("?")[0].removeprefix("/")
            if not (site / target).is_file() or (anchor and target in read and anchor not in read[target].anchors):
                broken.append(f"{name}: {link}")
    assert not broken, "\n".join(broken)


def test_every_public_name_is_in_the_reference(site):
    from sphinx.util.inventory import InventoryFile

    listed = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="").data
    documented = [pkgutil.resolve_name(name) for kind in ("class", "data", "exception", "function", "module")
                  for name in listed.get(f"py:{kind}", {})]  # fmt: skip
    missing = []
    for module in ["c2f_np", *(each.name for each in pkgutil.walk_packages(c2f_np.__path__, "c2f_np."))]:
        for name in [] if module.endswith("__main__") else getattr(importlib.import_module(module), "__all__", []):
            thing = pkgutil.resolve_name(f"{module}.{name}")
            if name != "__version__" and not any(thing is each for each in documented):
                missing.append(f"{module}.{name}")
    assert not missing
