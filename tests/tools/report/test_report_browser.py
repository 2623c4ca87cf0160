"""The report's page in headless Chromium: works, is legible in both schemes, stays offline."""

import json
import shutil
from pathlib import Path

import pytest

from tests.helpers.report_files import run_folder, write_config, write_run, write_scalars
from tests.helpers.result_files import EPOCHS, results, write
from tools.report.__main__ import main

pytestmark = pytest.mark.browser
WIDTHS = (390, 1280)
SCHEMES = ("light", "dark")

# Every element with words of its own that is shown: its words, colour, background, size.
WORDS = """
const solid = (element) => {
  let layers = [];
  for (let e = element; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor.match(/[\\d.]+/g).map(Number);
    if (c.length < 4 || c[3] > 0) layers.push(c);
    if (c.length < 4 || c[3] === 1) break;
  }
  return layers.reverse();
};
return [...document.querySelectorAll("body *")].filter((e) =>
  [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) && e.checkVisibility()
  && !["SCRIPT", "STYLE", "OPTION"].includes(e.tagName)).map((e) => {
    const s = getComputedStyle(e);
    return {words: e.textContent.trim().slice(0, 40), tag: e.tagName, layers: solid(e),
            colour: s.color.match(/[\\d.]+/g).map(Number),
            size: e.getBoundingClientRect().height};
  });
"""


@pytest.fixture(scope="module")
def browser():
    """Chromium that writes down what it asks of the network."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip(
            "no chromium and chromedriver in PATH: apt-get install chromium chromium-driver"
        )
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    opened = webdriver.Chrome(options=options, service=service)
    yield opened
    opened.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """A page with everything: three protocols, incomplete cells, warnings, details."""
    folder = tmp_path_factory.mktemp("browser")
    root = folder / "output"
    for number, dataset in enumerate(("dtd", "eurosat", "food101")):
        for method in ("CoOp", "MMRL", "a_method_with_a_rather_long_name"):
            for split in ("train_base", "test_new", "test_target", "train_source"):
                own = run_folder(root, split, dataset, method, 1)
                write(own / "results.json", results(900 - 100 * number - len(method), 1000))
            for shots in (1, 4, 16):
                for seed in (1, 2):
                    own = run_folder(root, "few_shot", dataset, method, seed, shots)
                    write(own / "results.json", results(400 + 20 * shots + 9 * seed, 1000))
    for method in ("CoOp", "MMRL"):
        full = write_run(run_folder(root, "few_shot", "dtd", method, 1))
        write_config(full, OPTIM__NAME=f"optimiser of {method}, with words enough for two lines")
        write_scalars(full, range(0, 100, 5))
    write(run_folder(root, "few_shot", "dtd", "CoOp", 2, 4) / "results.json", "{}")
    write(run_folder(root, "few_shot", "dtd", "MMRL", 3, 4) / "log.txt", EPOCHS)
    file = folder / "report.html"
    assert main([str(root), "-o", str(file), "--run", "few_shot/dtd/shots_16"]) == 0
    return file


def show(browser, page: Path, scheme: str = "light", width: int = 1280) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    browser.get(page.as_uri())


def luminance(colour: list[float]) -> float:
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (channel / 255 for channel in colour[:3])
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: list[float], b: list[float]) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def painted(layers: list[list[float]]) -> list[float]:
    """One colour from layers of which upper ones let lower ones shine through."""
    below = layers[0][:3]
    for *colour, alpha in (layer if len(layer) > 3 else [*layer, 1] for layer in layers[1:]):
        below = [alpha * c + (1 - alpha) * b for c, b in zip(colour, below, strict=True)]
    return below


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_it_loads_without_an_error_and_asks_nothing_of_the_network(browser, page, scheme, width):
    browser.get_log("browser"), browser.get_log("performance")
    show(browser, page, scheme, width)
    assert "Results in" in browser.title
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        e["params"]["request"]["url"] for e in events if e["method"].endswith("requestWillBeSent")
    ]
    assert page.as_uri() in asked
    assert all(url == page.as_uri() or url.startswith("data:") for url in asked), asked


def test_the_policy_of_the_page_stops_foreign_code(browser, page, tmp_path):
    changed = tmp_path / "changed.html"
    hostile = '<img src=x onerror="window.broken = 1"><script>window.broken = 1</script></main>'
    changed.write_text(page.read_text().replace("</main>", hostile))
    show(browser, changed)
    assert browser.execute_script("return window.broken === undefined")
    assert "Content Security Policy" in str(browser.get_log("browser"))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_all_words_are_legible(browser, page, scheme):
    show(browser, page, scheme)
    browser.execute_script("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    words = browser.execute_script(WORDS)
    assert {"TD", "TH", "BUTTON", "P", "LI", "FIGCAPTION"} <= {w["tag"] for w in words}
    for word in words:
        assert contrast(word["colour"], painted(word["layers"])) >= 4.5, word
        assert word["size"] >= 10, word


def column(browser, table: str, number: int) -> list[str]:
    return browser.execute_script(
        "const t = [...document.querySelectorAll('figure')].find((f) => "
        "f.querySelector('figcaption')?.textContent.startsWith(arguments[0]));"
        "return [...t.querySelectorAll('tbody tr, tfoot tr')]"
        ".map((row) => row.cells[arguments[1]].textContent);",
        *(table, number),
    )


def heading(browser, table: str, name: str):
    return browser.find_element(
        "xpath",
        f"//figure[figcaption[starts-with(., '{table}')]]//th[normalize-space()='{name}']/button",
    )


def test_tables_sort_by_click_and_by_key(browser, page):
    show(browser, page)
    table = "4 shots"
    before = column(browser, table, 0)
    assert before == [
        *("dtd", "eurosat", "food101", "Average", "Average of 2 in common"),
    ]
    button = heading(browser, table, "CoOp")
    button.click()
    values = column(browser, table, 1)[:3]
    assert button.find_element("xpath", "..").get_attribute("aria-sort") == "ascending"
    numbers = [float(value.split()[0]) for value in values]
    assert numbers == sorted(numbers) and values[-1] != values[0]
    button.click()
    assert column(browser, table, 1)[:3][::-1][0] == values[0]
    assert column(browser, table, 0)[3:] == before[3:], "averages stay last"
    name = heading(browser, table, "data set")
    name.send_keys("\ue007")  # Enter
    name.send_keys("\ue007")
    assert column(browser, table, 0) == ["food101", "eurosat", "dtd", *before[3:]]
    assert button.find_element("xpath", "..").get_attribute("aria-sort") is None


def test_another_run_is_shown_when_chosen(browser, page):
    from selenium.webdriver.support.select import Select

    show(browser, page)

    def shown() -> list[str]:
        runs = browser.find_elements("css selector", ".run")
        return [run.find_element("tag name", "h3").text for run in runs if run.is_displayed()]

    select = Select(browser.find_element("id", "run"))
    assert len(select.options) == 6 and len(shown()) == 1 and "CoOp" in shown()[0]
    wanted = next(o for o in select.options if o.text.startswith("MMRL vit_b16, seed 1"))
    select.select_by_visible_text(wanted.text)
    assert shown() == ["few_shot/dtd/shots_16/MMRL/vit_b16/seed1"]
    article = browser.find_element("css selector", ".run:not([hidden])")
    assert len(article.find_elements("css selector", ".plot")) == 3
    assert article.find_element("css selector", ".matrix").is_displayed()


@pytest.mark.parametrize("width", WIDTHS)
def test_no_width_breaks_it(browser, page, width):
    show(browser, page, width=width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    outside = browser.execute_script(
        "return [...document.querySelectorAll('main > section > *, .plot, .scroll, select')]"
        ".filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > arguments[0])"
        ".map((e) => e.className || e.tagName)",
        width,
    )
    assert outside == []
    rows = "return [...document.querySelectorAll('tbody tr')].map((e) => e.clientHeight)"
    assert max(browser.execute_script(rows)) < 150, "no cell is squeezed to a few letters a line"
    if width == 390:
        boxes = "return [...document.querySelectorAll('.scroll')].map((e) => e.scrollWidth)"
        assert max(browser.execute_script(boxes)) > width, "wide tables scroll in their own box"


def test_it_prints_in_dark_letters_whatever_the_scheme(browser, page):
    show(browser, page, "dark")
    dark = {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    words = browser.execute_script(WORDS)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen"})
    outside = [word for word in words if painted(word["layers"]) == [255, 255, 255]]
    assert len(outside) > 100
    for word in outside:
        assert contrast(word["colour"], [255, 255, 255]) >= 4.5, word
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})
    assert len(printed["data"]) > 10_000
