"""The page in a real browser, also when the server is slow."""

import pytest

# ruff: noqa: F811 (fixtures)
from page_fixtures import NASTY, address, saved, server  # noqa: F401

TEXT = "The molecule is a carboxylic acid."


def width_of(page):
    return page.evaluate("document.documentElement.scrollWidth")


@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(browser, address, index, width):
    context = browser.new_context(viewport={"width": width, "height": 844})
    context.set_default_timeout(60_000)  # a busy machine takes its time
    page = context.new_page()
    asked, faults = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(address)
    page.get_by_role("button", name="Find molecules").click()
    page.get_by_text("the description is empty").wait_for()

    page.locator("#text textarea").fill(TEXT)
    page.locator("#text textarea").press("Enter")
    page.locator("#results .hit").nth(11).wait_for()
    scores = page.locator("#results .score").all_inner_texts()
    assert scores == [f"{hit.score:.3f}" for hit in index.search(TEXT, k=12)]
    assert width_of(page) <= width
    assert page.locator("#results .raised").count() == 0
    page.get_by_label("Colour the atoms").check()  # colours the results that are shown
    page.locator("#results .raised").wait_for()
    page.locator("#text textarea").press("Enter")  # colours follow the next answer
    page.locator("#results .raised").wait_for()
    page.get_by_label("Colour the atoms").uncheck()
    page.locator("#results .raised").wait_for(state="detached")

    page.get_by_text("Settings and filters").click()
    page.get_by_label("With the elements").fill("N")
    page.get_by_role("button", name="Find molecules").click()
    page.get_by_text("6 of 28 molecules").wait_for()
    page.get_by_label("Weight to").fill("40")
    page.get_by_role("button", name="Find molecules").click()
    page.get_by_text("1 of 28 molecules").wait_for()
    page.wait_for_function("location.hash.includes('max_weight=40')")
    same_search = context.new_page()
    same_search.goto(page.url)
    same_search.get_by_text("1 of 28 molecules").wait_for()
    assert same_search.locator("#text textarea").input_value() == TEXT
    same_search.close()

    page.get_by_label("Where").fill("number < 0")
    page.get_by_role("button", name="Find molecules").click()
    page.get_by_text("No molecule passes the filters").wait_for()

    page.get_by_role("tab", name="Draw or paste").click()
    assert page.get_by_text("No molecule passes the filters").is_hidden()
    page.locator("#smiles textarea").fill("C1CC")
    page.get_by_text("RDKit cannot parse the SMILES").wait_for()
    page.locator("#smiles textarea").fill("CC(=O)O")
    page.get_by_text("C2H4O2").wait_for()
    page.locator("#ask").click()
    page.locator("#molecule_results .captions").wait_for()
    assert width_of(page) <= width

    # The pasted molecule is in the sketcher. A click next to it with the tool for bonds adds ethane.
    page.get_by_text("Draw it").click()
    canvas = page.locator("#sketch canvas").last
    canvas.wait_for()
    box = canvas.bounding_box()
    page.wait_for_timeout(1000)
    canvas.click(position={"x": box["width"] * 0.9, "y": box["height"] * 0.15})
    page.wait_for_function("document.querySelector('#smiles textarea').value === 'CC.CC(O)=O'")
    page.get_by_text("C4H10O2 · 90.1 Da").wait_for()
    for button in page.locator("#sketch .tools button").all():
        size = button.bounding_box()
        assert size["height"] >= 36 and size["width"] >= 36 and button.inner_text()
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="Benzene").click()
    canvas.click(position={"x": box["width"] / 2, "y": box["height"] / 2})
    page.get_by_text("C6H6 · 78.1 Da").wait_for()
    assert width_of(page) <= width

    page.get_by_label("similar molecules").check()
    for name in ("Where", "Weight to", "With the elements"):
        page.get_by_label(name).fill("")
    page.locator("#ask").click()
    page.wait_for_function("location.hash.includes('find=similar')")
    same_search = context.new_page()
    same_search.goto(page.url)
    same_search.locator("#molecule_results .hit").nth(5).wait_for()
    assert same_search.locator("#smiles textarea").input_value() == "c1ccccc1"
    same_search.close()
    assert faults == []
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    context.close()


class HeldCall:
    """Holds the page's next call of the server until `let_go`."""

    def __init__(self, page):
        self.call = None
        page.route("**/queue/join*", self.hold_first, times=1)

    def hold_first(self, call):
        self.call = call

    def let_go(self):
        self.call.continue_()


def test_the_last_search_is_the_one_that_is_shown(browser, address):
    """Searches and colours overlap when the server is slow."""
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.goto(address)
    page.get_by_text("Settings and filters").click()
    page.locator("#text textarea").fill(TEXT)
    held = HeldCall(page)
    with page.expect_request("**/queue/join*"):
        page.get_by_role("button", name="Find molecules").click()
    page.get_by_label("With the elements").fill("N")
    page.get_by_role("button", name="Find molecules").click()  # while the first search is under way
    held.let_go()
    page.get_by_text("6 of 28 molecules").wait_for()

    # Colours are switched on, then off, which repeats the search. A new search comes before the answer.
    for colours in (True, False):
        page.get_by_label("With the elements").fill("N")
        held = HeldCall(page)
        with page.expect_request("**/queue/join*"):
            page.get_by_label("Colour the atoms").set_checked(colours)
        page.get_by_label("With the elements").fill("")
        page.get_by_role("button", name="Find molecules").click()
        page.get_by_text("12 of 28 molecules").wait_for()
        held.let_go()
        page.wait_for_timeout(1000)
        assert page.get_by_text("12 of 28 molecules").is_visible()
        if colours:
            page.locator("#results .raised").wait_for()
    assert page.locator("#results .raised").count() == 0

    # With results in both tabs, colours leave the address to the tab that is shown.
    page.get_by_role("tab", name="Draw or paste").click()
    page.locator("#smiles textarea").fill("CCCO")
    page.get_by_label("similar molecules").check()
    page.locator("#ask").click()
    page.locator("#molecule_results .hit").first.wait_for()
    page.get_by_role("tab", name="Describe").click()
    page.get_by_label("Colour the atoms").set_checked(True)
    for results in ("results", "molecule_results"):
        page.locator(f"#{results} .raised").first.wait_for(state="attached")
    assert "text=" in page.url and "smiles=" not in page.url
    page.close()


def test_a_double_click_searches_once(browser, address):
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.goto(address)
    page.locator("#text textarea").fill(TEXT)
    searches = []
    page.on("request", lambda request: searches.append(request.url) if "/queue/join" in request.url else None)
    page.get_by_role("button", name="Find molecules").dblclick()
    page.get_by_text("12 of 28 molecules").wait_for()
    page.wait_for_timeout(300)  # a second search would follow the first
    assert len(searches) == 1
    page.close()


def test_another_pool_and_what_its_table_holds_does_not_run(browser, address):
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.goto(address)
    page.locator("#pool input").click()
    page.get_by_role("option", name="nasty: 1 molecules").click()
    page.locator("#text textarea").fill("anything")
    page.get_by_role("button", name="Find molecules").click()
    page.get_by_text("1 of 1 molecules").wait_for()
    assert page.locator("#results .caption").inner_text() == NASTY
    assert page.evaluate("window.hacked") is None
    page.close()
