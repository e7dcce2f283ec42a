"""The shop as people use it, in a real browser: with and without JavaScript, with the keyboard alone."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urljoin

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import APIResponse, Locator, Page, Route, expect

from tests import preloaded
from tests.browser import PATIENCE, PHONE, Visit, follow
from tests.processes import StoreProcess, clean_environment
from tests.visitors import press
from tests.waiting import wait_for

COUNT = 30
MARKUP = "<script>alert(1)</script> Quokka"
MAKE = f"""
import json
from store.models import Product
numbers = range(1, {COUNT + 1})
made = [Product(name=f"Quokka {{n:02}}", description="a marsupial", price=n * 1000 + 7) for n in numbers]
made.append(Product(name={MARKUP!r}, description="shy", price=None))
made += [Product(name=f"Gone {{n}}", description="not for long", price=n) for n in (1, 2)]
for product in made:
    product.save()
print(json.dumps([product.pk for product in made]))
"""
DELETE = "from store.models import Product; Product.objects.filter(pk__in={}).delete()"
GONE_1, GONE_2 = COUNT + 1, COUNT + 2  # Their places among the products made.
MOST_TABS = 80


@dataclass(frozen=True)
class Quokkas:
    """This module's own: 30 with prices from 1,007 to 30,007, one without, two to be deleted."""

    store: StoreProcess
    ids: list[int]

    def reprice(self, number: int, price: int) -> None:
        """Save one with another price, which is announced with the price."""
        in_the_demo(
            self.store,
            f"from store.models import Product; one = Product.objects.get(pk={self.ids[number]}); "
            f"one.price = {price}; one.save()",
        )

    def reprice_in_bulk(self, number: int, price: int) -> None:
        """Change one by a query of its own, of which nothing but that it was is announced."""
        in_the_demo(
            self.store,
            f"from store.models import Product; "
            f"Product.objects.filter(pk={self.ids[number]}).update(price={price})",
        )

    def delete(self, number: int) -> None:
        in_the_demo(
            self.store,
            f"from store.models import Product; Product.objects.get(pk={self.ids[number]}).delete()",
        )

    def path(self, number: int) -> str:
        return f"/shop/{self.ids[number]}/"


@pytest.fixture(scope="module")
def quokkas(demo_store: StoreProcess) -> Iterator[Quokkas]:
    ids = json.loads(in_the_demo(demo_store, MAKE))
    yield Quokkas(demo_store, ids)
    in_the_demo(demo_store, DELETE.format(ids))


def in_the_demo(store: StoreProcess, code: str) -> str:
    """Run Python in the demo's own environment, as an operator might; return what it printed."""
    environment = clean_environment(VAR_DIR=str(store.log.parent), **PATIENCE)
    run = preloaded.run(["manage.py", "shell", "--no-imports", "-c", code], environment)
    assert run.returncode == 0, run.stderr
    return run.stdout


def shown(page: Page) -> Locator:
    """The names of the listed products."""
    return page.locator(".shelf h3")


def search(page: Page, words: str) -> None:
    page.get_by_label("Search in names and descriptions").fill(words)
    follow(page.get_by_role("button", name="Show"))


def put_into_basket(page: Page, quantity: int) -> None:
    page.get_by_label("Quantity").fill(str(quantity))
    page.get_by_role("button", name="Add to basket").click()


@contextmanager
def slow_first_write(page: Page) -> Iterator[None]:
    """Let the first write to the basket reach the store at the end only, as over a slow line."""
    held: list[Route] = []

    def pass_on(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    page.route("**/store/basket/*/", pass_on)
    with page.expect_request("**/store/basket/*/"):
        yield
    with page.expect_request_finished(lambda request: request == held[0].request):
        held[0].continue_()


def change(quantity: Locator, number: int) -> None:
    quantity.fill(str(number))
    quantity.press("Tab")


def expect_pieces(page: Page, count: int) -> None:
    basket = page.get_by_role("navigation", name="Shop").get_by_role("link", name="Basket")
    expect(basket).to_contain_text(str(count))


def open_basket(one: Visit, quokkas: Quokkas, quantities: dict[int, int]) -> Page:
    """Put products into the basket, each on its page, and go to look at it."""
    pieces = 0
    for index, quantity in quantities.items():
        page = one.open(quokkas.path(index))
        put_into_basket(page, quantity)
        pieces += quantity
        expect_pieces(page, pieces)
    return one.open("/shop/basket/")


def tab_to(page: Page, target: Locator) -> None:
    """Press Tab until `target` has the focus."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if target.evaluate("(one) => one === document.activeElement"):
            return
    raise AssertionError(f"{target} is not reached by Tab")


# --- The list -------------------------------------------------------------------------------------


@pytest.mark.parametrize("java_script_enabled", [True, False])
def test_products_are_found_sorted_and_turned_over(visit, quokkas, java_script_enabled):
    page = visit(java_script_enabled=java_script_enabled).open("/shop/")
    page.get_by_label("Sort by").select_option(label="Price, highest first")
    search(page, "marsupial")
    expect(shown(page)).to_have_count(24)
    expect(shown(page).first).to_have_text("Quokka 30")
    expect(page.locator(".shelf li").first).to_contain_text("30,007")
    expect(page.get_by_role("heading", name="Products 1 to 24")).to_be_visible()
    follow(page.get_by_role("link", name="Next page"))
    expect(page.get_by_role("heading", name="Products 25 to 30")).to_be_visible()
    expect(shown(page)).to_have_text([f"Quokka 0{n}" for n in range(6, 0, -1)])
    expect(page.get_by_role("link", name="Next page")).to_have_count(0)
    expect(page.get_by_label("Sort by")).to_have_value("-price")
    follow(page.get_by_role("link", name="Previous page"))
    expect(shown(page).first).to_have_text("Quokka 30")


def test_a_range_of_prices_bounds_the_list_and_nothing_found_says_so(visit, quokkas):
    page = visit().open("/shop/?search=quokka")
    page.get_by_label("Price from").fill("2007")
    page.get_by_label("to", exact=True).fill("4006")
    follow(page.get_by_role("button", name="Show"))
    expect(shown(page)).to_have_text(["Quokka 02", "Quokka 03"])
    search(page, "no such animal")
    expect(page.get_by_text("No product matches.")).to_be_visible()
    follow(page.get_by_role("link", name="All products"))
    expect(shown(page)).to_have_count(24)


def test_what_cannot_be_understood_is_said_beside_its_field(visit, quokkas):
    one = visit()
    page = one.open("/shop/?search=marsupial")
    page.get_by_label("Price from").fill("cheap")
    follow(page.get_by_role("button", name="Show"))
    field = page.get_by_label("Price from")
    expect(field).to_have_accessible_description("A valid integer is required.")
    expect(field).to_have_value("cheap")
    expect(page.get_by_label("Search in names and descriptions")).to_have_value("marsupial")
    expect(shown(page)).to_have_count(24)
    assert all("400 (Bad Request)" in complaint for complaint in one.complaints)
    one.complaints.clear()  # Chromium says of every page that was answered with 400 that it was.


def test_the_list_says_how_it_was_come_by(visit, quokkas):
    page = visit().open("/shop/?search=quokka&ordering=name")
    page.reload()
    expect(page.get_by_text("This list came from the cache. Getting it took")).to_be_visible()


def test_what_was_looked_at_stands_beside_the_list(visit, quokkas):
    page = visit().open(quokkas.path(3))
    for _ in range(4):
        page = visit().open(quokkas.path(4))
    page.goto(page.url.replace(quokkas.path(4), quokkas.path(5)))
    # Any write has the ranking shown anew, which may have been empty a moment ago.
    press(quokkas.store, "/forget/price/", {"product": str(quokkas.ids[3]), "price": "4007"})
    follow(page.get_by_role("link", name="Products"))
    recent = page.get_by_role("region", name="Recently viewed").get_by_role("listitem")
    expect(recent).to_have_count(2)
    expect(recent.first).to_contain_text("Quokka 06")
    expect(recent.nth(1)).to_contain_text("Quokka 05")
    popular = page.get_by_role("region", name="Most viewed").get_by_role("listitem")

    def somebody_is_ranked() -> bool:
        page.reload()
        return popular.count() > 0

    wait_for(somebody_is_ranked, seconds=150)  # It is made anew once a minute.
    expect(popular.first).to_contain_text("view")


def test_names_are_text_wherever_they_are_shown(visit, quokkas):
    page = visit().open("/shop/?search=shy")
    follow(page.get_by_role("link", name=MARKUP))
    expect(page.get_by_role("heading", name=MARKUP)).to_be_visible()
    expect(page.get_by_text("no price yet")).to_be_visible()
    put_into_basket(page, 1)
    expect_pieces(page, 1)
    follow(page.get_by_role("link", name="Basket"))
    page.get_by_role("button", name=f"Remove {MARKUP}").click()
    expect(page.get_by_text(f"{MARKUP} was taken out.")).to_be_visible()


# --- A product ------------------------------------------------------------------------------------


def test_a_price_changes_on_the_open_page(visit, quokkas):
    page = visit().open(quokkas.path(0))
    price = page.locator("#price")
    expect(price).to_have_text("1,007")
    quokkas.reprice(0, 2222)
    expect(price).to_have_text("2,222")
    expect(page.get_by_text("The price has just changed. Before: 1,007")).to_be_visible()
    quokkas.reprice_in_bulk(0, 1007)
    expect(price).to_have_text("1,007")
    expect(page.get_by_text("The price has just changed. Before: 2,222")).to_be_visible()


def test_a_price_that_changed_while_nobody_listened_is_looked_up(visit, quokkas):
    one = visit()
    one.page.route("**/store/events/**", lambda route: route.abort())
    page = one.open(quokkas.path(1))
    quokkas.reprice(1, 3333)
    page.unroute("**/store/events/**")
    expect(page.locator("#price")).to_have_text("3,333")
    quokkas.reprice(1, 2007)
    expect(page.locator("#price")).to_have_text("2,007")
    assert all("ERR_FAILED" in complaint for complaint in one.complaints)
    one.complaints.clear()  # They are of the streams that this test has cut off.


def test_a_price_that_was_looked_up_before_it_changed_is_not_shown_after(visit, quokkas):
    one = visit()
    asked: list[tuple[Route, APIResponse]] = []
    one.page.route("**/price/", lambda route: asked.append((route, route.fetch())))
    page = one.open(quokkas.path(24))
    wait_for(lambda: page.evaluate("true") and asked)  # The page looks as soon as it listens.
    quokkas.reprice(24, 25008)  # It keeps its place among the others, which are sorted by prices.
    expect(page.locator("#price")).to_have_text("25,008")
    route, response = asked[0]
    with page.expect_request_finished(lambda request: request == route.request):
        route.fulfill(response=response)
    quokkas.reprice(24, 25009)  # When this is shown, the old answer has been dealt with.
    expect(page.locator("#price")).to_have_text("25,009")
    expect(page.get_by_text("The price has just changed. Before: 25,008")).to_be_visible()


def test_a_product_that_is_taken_out_of_the_store_says_so_on_its_open_page(visit, quokkas):
    one = visit()
    page = one.open(quokkas.path(GONE_1))
    expect(page.locator("#price")).to_have_text("1")
    quokkas.delete(GONE_1)
    expect(page.get_by_text("This product has just been taken out of the store.")).to_be_visible()
    expect(page.get_by_role("button", name="Add to basket")).to_be_disabled()
    page.reload()
    expect(page.get_by_role("heading", name="There is nothing here")).to_be_visible()
    assert all("404 (Not Found)" in complaint for complaint in one.complaints)
    one.complaints.clear()  # The page is gone, which Chromium says as well.


# --- The basket -----------------------------------------------------------------------------------


def test_a_basket_is_filled_changed_and_emptied(visit, quokkas):
    page = visit().open(quokkas.path(9))
    expect_pieces(page, 0)
    put_into_basket(page, 2)
    expect(page.get_by_text("In your basket: 2")).to_be_visible()
    expect_pieces(page, 2)
    page.goto(page.url.replace(quokkas.path(9), quokkas.path(10)))
    put_into_basket(page, 1)
    expect_pieces(page, 3)
    follow(page.get_by_role("link", name="Basket"))
    total = page.locator("#total")
    expect(total).to_have_text("31,021")
    quantity = page.get_by_label("Quantity of Quokka 10")
    quantity.fill("4")
    quantity.press("Tab")
    expect(total).to_have_text("51,035")
    expect(page.get_by_text("Saved. The total is now 51,035.")).to_be_visible()
    expect_pieces(page, 5)
    page.get_by_role("button", name="Remove Quokka 10").click()
    expect(total).to_have_text("11,007")
    expect(page.get_by_role("button", name="Remove Quokka 11")).to_be_focused()
    page.reload()
    expect(total).to_have_text("11,007")
    page.get_by_role("button", name="Empty the basket").click()
    expect(page.get_by_text("There is nothing in it yet.")).to_be_visible()
    expect_pieces(page, 0)
    page.reload()
    expect(page.get_by_text("There is nothing in it yet.")).to_be_visible()


def test_a_quantity_that_is_changed_before_the_script_has_come_is_saved(visit, quokkas):
    one = visit()
    page = one.open(quokkas.path(19))
    put_into_basket(page, 2)
    expect_pieces(page, 2)
    held: list[Route] = []
    page.route("**/shop.js", lambda route: held.append(route))
    with page.expect_request("**/shop.js"):
        page.goto(urljoin(one.url, "/shop/basket/"), wait_until="commit")
    quantity = page.get_by_label("Quantity of Quokka 20")
    quantity.fill("3")
    quantity.press("Tab")
    expect(quantity).not_to_be_focused()
    assert len(held) == 1
    held[0].continue_()
    expect(page.locator("#total")).to_have_text("60,021")
    page.unroute("**/shop.js")
    page.reload()
    expect(quantity).to_have_value("3")


def test_a_quantity_that_is_changed_while_others_are_being_saved_is_saved_too(visit, quokkas):
    one = visit()
    page = open_basket(one, quokkas, {21: 2, 22: 1})
    first, second = (page.get_by_label(f"Quantity of Quokka {number}") for number in (22, 23))
    with slow_first_write(page):
        change(first, 3)
        change(first, 5)
        change(second, 4)
    expect(page.locator("#total")).to_have_text("202,063")
    page.reload()
    expect(first).to_have_value("5")
    expect(second).to_have_value("4")


def test_changes_on_a_products_page_are_made_in_their_order(visit, quokkas):
    page = visit().open(quokkas.path(23))
    with slow_first_write(page):
        put_into_basket(page, 2)
        put_into_basket(page, 3)
    expect(page.get_by_text("In your basket: 3")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Quantity")).to_have_value("3")


def test_a_basket_does_the_same_without_javascript(visit, quokkas):
    page = visit(java_script_enabled=False).open(quokkas.path(11))
    put_into_basket(page, 3)
    expect(page.get_by_role("heading", name="Basket")).to_be_visible()
    expect(page.locator("#total")).to_have_text("36,021")
    expect_pieces(page, 3)
    page.get_by_label("Quantity of Quokka 12").fill("2")
    page.get_by_role("button", name="Change").click()
    expect(page.locator("#total")).to_have_text("24,014")
    follow(page.get_by_role("link", name="Quokka 12"))
    expect(page.get_by_text("In your basket: 2")).to_be_visible()
    page.get_by_label("Quantity").fill("1")
    page.get_by_role("button", name="Change quantity").click()
    expect(page.locator("#total")).to_have_text("12,007")
    page.get_by_role("button", name="Remove Quokka 12").click()
    expect(page.get_by_text("There is nothing in it yet.")).to_be_visible()


def test_a_quantity_that_cannot_be_is_not_sent(visit, quokkas):
    page = visit().open(quokkas.path(12))
    put_into_basket(page, 2)
    expect_pieces(page, 2)
    follow(page.get_by_role("link", name="Basket"))
    quantity = page.get_by_label("Quantity of Quokka 13")
    for wrong in ("0", "100", ""):
        quantity.fill(wrong)
        quantity.press("Enter")
        assert quantity.evaluate("(one) => one.matches(':invalid')")
    expect_pieces(page, 2)
    page.reload()
    expect(quantity).to_have_value("2")


def test_what_the_store_refuses_is_said_at_the_line(visit, quokkas):
    one = visit()
    page = one.open(quokkas.path(GONE_2))
    put_into_basket(page, 2)
    expect_pieces(page, 2)
    follow(page.get_by_role("link", name="Basket"))
    quokkas.delete(GONE_2)
    quantity = page.get_by_label("Quantity of Gone 2")
    quantity.fill("5")
    quantity.press("Enter")
    expect(quantity).to_have_accessible_description("This product is no longer in the store.")
    page.reload()
    expect(page.get_by_text("is no longer in the store and was taken out")).to_be_visible()
    assert all("404 (Not Found)" in complaint for complaint in one.complaints)
    one.complaints.clear()  # The refusal, as Chromium tells it.


def test_what_was_refused_stays_with_its_reason_while_others_are_saved(visit, quokkas):
    one = visit()
    page = open_basket(one, quokkas, {25: 2, 26: 1})
    refused, other = (page.get_by_label(f"Quantity of Quokka {number}") for number in (26, 27))
    path = f"**/store/basket/{quokkas.ids[25]}/"
    page.route(path, lambda route: route.fulfill(status=429, headers={"Retry-After": "7"}))
    tries: list[str] = []
    page.on("request", lambda request: request.method == "PUT" and tries.append(request.url))
    refused.fill("4")
    refused.press("Enter")
    why = "These were too many changes in a row. Please try again in 7 seconds."
    expect(refused).to_have_accessible_description(why)
    change(other, 3)
    expect_pieces(page, 5)
    assert [url.rsplit("/", 2)[1] for url in tries] == [str(quokkas.ids[n]) for n in (25, 26)]
    expect(refused).to_have_value("4")
    expect(refused).to_have_accessible_description(why)
    page.unroute(path)
    refused.press("Enter")
    expect_pieces(page, 7)
    expect(refused).to_have_accessible_description("")
    one.complaints.clear()  # The refusal, as Chromium tells it.


def test_a_quantity_that_another_tab_has_changed_can_be_changed_back(visit, quokkas):
    one = visit()
    page = open_basket(one, quokkas, {27: 2, 28: 1})
    changed, other = (page.get_by_label(f"Quantity of Quokka {number}") for number in (28, 29))
    change(changed, 5)
    expect_pieces(page, 6)
    another_tab = one.context.new_page()
    another_tab.goto(urljoin(one.url, quokkas.path(27)))
    another_tab.get_by_label("Quantity").fill("7")
    another_tab.get_by_role("button", name="Change quantity").click()
    expect(another_tab.get_by_text("In your basket: 7")).to_be_visible()
    change(other, 2)
    expect(changed).to_have_value("7")
    change(changed, 5)
    expect_pieces(page, 7)


def test_a_line_that_another_tab_has_taken_out_is_gone_for_whoever_takes_it_out(visit, quokkas):
    one = visit()
    page = open_basket(one, quokkas, {29: 2})
    another_tab = one.context.new_page()
    another_tab.goto(page.url)
    another_tab.get_by_role("button", name="Remove Quokka 30").click()
    expect(another_tab.get_by_text("There is nothing in it yet.")).to_be_visible()
    page.get_by_role("button", name="Remove Quokka 30").click()
    expect(page.get_by_text("There is nothing in it yet.")).to_be_visible()
    expect(page.get_by_text("Quokka 30 was taken out.")).to_be_visible()
    one.complaints.clear()  # That there was nothing to take out, as Chromium tells it.


def test_two_clicks_take_one_line_out(visit, quokkas):
    page = open_basket(visit(), quokkas, {6: 1, 7: 1, 8: 1})
    held: list[Route] = []
    page.route("**/store/basket/*/", lambda route: held.append(route))
    button = page.get_by_role("button", name="Remove Quokka 08")
    with page.expect_request("**/store/basket/*/"):
        button.click()
    button.click()
    held[0].continue_()
    expect(page.get_by_role("button", name="Remove Quokka 09")).to_be_focused()
    change(page.get_by_label("Quantity of Quokka 09"), 2)
    with page.expect_request_finished():
        held[1].continue_()  # It is that change; there is nothing between the two.
    expect_pieces(page, 3)
    assert [route.request.method for route in held] == ["DELETE", "PUT"]


def test_what_waits_to_be_saved_is_saved_before_what_another_tab_did_is_taken_over(visit, quokkas):
    one = visit()
    page = open_basket(one, quokkas, {6: 1, 7: 1})
    another_tab = one.context.new_page()
    another_tab.goto(urljoin(one.url, quokkas.path(8)))
    put_into_basket(another_tab, 1)
    expect_pieces(another_tab, 3)
    first, second = (page.get_by_label(f"Quantity of Quokka {number}") for number in ("07", "08"))
    with slow_first_write(page):
        change(first, 3)
        change(second, 4)
        change(first, 1)
    expect(page.get_by_role("link", name="Quokka 09")).to_be_visible()
    expect_pieces(page, 6)
    expect(first).to_have_value("1")
    expect(second).to_have_value("4")


def test_what_another_tab_did_is_taken_over(visit, quokkas):
    one = visit()
    page = one.open(quokkas.path(13))
    put_into_basket(page, 2)
    expect_pieces(page, 2)
    follow(page.get_by_role("link", name="Basket"))
    other = one.context.new_page()
    other.goto(page.url.replace("basket/", f"{quokkas.ids[14]}/"))
    put_into_basket(other, 1)
    expect_pieces(other, 3)
    quantity = page.get_by_label("Quantity of Quokka 14")
    quantity.fill("1")
    quantity.press("Enter")
    expect(page.get_by_role("link", name="Quokka 15")).to_be_visible()
    expect(page.locator("#total")).to_have_text("29,014")


def test_a_page_from_before_a_sign_in_in_another_tab_works_on(visit, quokkas):
    """Signing in makes the CSRF token another one for all tabs, which is what is done here."""
    one = visit()
    page = one.open(quokkas.path(13))
    one.context.clear_cookies(name="csrftoken")
    one.context.new_page().goto(page.url)
    put_into_basket(page, 2)
    expect_pieces(page, 2)


def test_the_keyboard_is_enough(visit, quokkas):
    page = visit().open("/shop/")
    tab_to(page, page.get_by_label("Search in names and descriptions"))
    page.keyboard.type("Quokka 17")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    expect(shown(page)).to_have_text(["Quokka 17"])
    tab_to(page, page.get_by_role("link", name="Quokka 17"))
    with page.expect_navigation():
        page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Quokka 17")).to_be_visible()
    tab_to(page, page.get_by_label("Quantity"))
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect_pieces(page, 2)
    page.keyboard.press("Shift+Tab")
    tab_to(page, page.get_by_role("button", name="Change quantity"))
    page.reload()
    tab_to(page, page.get_by_role("navigation", name="Shop").get_by_role("link", name="Basket"))
    with page.expect_navigation():
        page.keyboard.press("Enter")
    expect(page.locator("#total")).to_have_text("34,014")
    tab_to(page, page.get_by_label("Quantity of Quokka 17"))
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(page.locator("#total")).to_have_text("51,021")
    tab_to(page, page.get_by_role("button", name="Remove Quokka 17"))
    page.keyboard.press("Enter")
    expect(page.locator("#empty").get_by_role("link", name="To the products")).to_be_focused()


@pytest.mark.parametrize("look", [{}, {"color_scheme": "dark"}, {"viewport": PHONE}])
def test_a_filled_basket_and_a_refused_search_can_be_used_by_everybody(visit, quokkas, look):
    one = visit(**look)
    page = one.open(quokkas.path(18))
    put_into_basket(page, 2)
    expect_pieces(page, 2)
    for path in ("/shop/basket/", "/shop/?min_price=x&ordering=y", quokkas.path(18)):
        one.open(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
        found = Axe().run(page)
        assert found.response["violations"] == [], found.generate_report()
    one.complaints.clear()  # Chromium says of the refused search that it was answered with 400.
