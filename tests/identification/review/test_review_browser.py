"""The review page in a browser: keys, reload, tabs, reviewers, and a program that is killed."""

import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from tests.identification.review.review_fixtures import reviewing, write_files
from tests.identification.review.test_review_server import EVIL, said

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (apt: chromium-driver)"
)


class Review:
    """The command as a user runs it; it may be killed, and started again."""

    def __init__(self, folder, by):
        self.command = [sys.executable, "-c", "from openanimals.cli import main; main()", "review"]
        self.command += ["--no-browser", "--by", by, "--catalogue", str(folder / "herd.csv")]
        self.command += ["--matches", str(folder / "matches")]
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        self.address = re.search(r"http://\S+", self.process.stdout.readline())[0]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def review():
    running = []

    def start(folder, by):
        running.append(Review(folder, by))
        return running[-1]

    yield start
    for each in running:
        each.kill()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


class Page:
    """One window of the browser, as somebody with a keyboard uses it."""

    def __init__(self, driver):
        self.driver = driver

    def script(self, code):
        return self.driver.execute_script(f"return {code}")

    def until(self, code, seconds=20):
        end = time.monotonic() + seconds
        while not self.script(code):
            assert time.monotonic() < end, (code, self.driver.get_log("browser"))
            time.sleep(0.01)

    def open(self, address):
        self.driver.get(address)
        self.until("document.body.dataset.state === 'ready'")

    @property
    def shown(self):
        return self.script(
            "['left', 'right'].map(side => document.querySelector(`#${side} .title`).textContent)"
        )

    def text(self, selector):
        return self.script(f"document.querySelector('{selector}').textContent")

    def type(self, keys):
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(keys).perform()

    def press(self, key):
        """Press a key that answers, wait for the next question, and return what was asked.

        What is less likely than its opposite is saved when the key is pressed again.
        """
        before, count = self.shown, self.script("document.body.dataset.asked")
        chance = int(re.search(r"(\d+)\s%", self.text(".badge.chance"))[1])
        if (key == "s" and chance < 50) or (key == "d" and chance > 50):
            self.type(key)
            self.until("!document.getElementById('alert').hidden")
            assert "once more" in self.text("#alert") and self.shown == before
        self.type(key)
        self.until(f"document.body.dataset.asked !== '{count}'")
        return before

    def view(self, name, words):
        """Go to a view, and wait until it says something."""
        self.script(f"document.querySelector('[data-view={name}]').click()")
        self.until(f"document.querySelector('#view-{name}').textContent.includes('{words}')")


def decided(asked, key, by):
    """Return what an answer should leave among the decisions."""
    encounter, name = asked
    number = encounter.split()[-1]
    own = [f"new-{number}-{side}.jpg" for side in range(2)]
    known = f"known-{('Kesi', 'Mara', 'Zuri').index(name)}-left.jpg"
    if key == "s":
        return [("name", photograph, name, by) for photograph in own]
    if key == "n":
        return [("new", own[0], None, by), ("same", *own, by)]
    return [({"d": "different", "c": "incomparable", "k": "skip"}[key], own[0], known, by)]


@needs_browser
def test_a_review_by_keyboard_with_all_that_may_happen(tmp_path, review, browser):
    folder = write_files(tmp_path / "herd", 10)
    page, expected = Page(browser), []
    ada = review(folder, "Ada")
    page.open(ada.address)
    assert "token" not in browser.current_url  # nor in the history of the browser
    assert page.shown == ["visit 0", "Kesi"]

    def press(key, by="Ada"):
        asked = page.press(key)
        expected.extend(decided(asked, key, by))
        assert said(folder) == expected
        return asked

    for key in "sdcnk":
        press(key)
    page.type("t")
    page.type("clear stripes\ue007")  # Enter
    press("s")
    with sqlite3.connect(folder / "herd.csv.decisions.sqlite") as file:
        notes = file.execute("SELECT DISTINCT note FROM decisions ORDER BY number").fetchall()
    assert notes == [("",), ("clear stripes",)]

    # Undone, and answered otherwise; with the arrow, about another candidate.
    here = page.press("u")
    del expected[-2:]
    assert said(folder) == expected and page.shown != here
    # Another photograph of it is chosen before the first can be seen.
    first = page.shown
    browser.execute_script(
        "const press = key => document.body.dispatchEvent(new KeyboardEvent('keydown', {key,"
        " bubbles: true})); new MutationObserver((_, own) => { own.disconnect(); press('i'); })"
        ".observe(document.querySelector('#right .title'), {childList: true});"
        " press('ArrowRight');"
    )
    page.until(f"document.querySelector('#right .title').textContent !== '{first[1]}'")
    page.until("!document.body.classList.contains('busy')")
    assert page.shown[0] == first[0]
    press("d")

    # A reload shows the same question; back, the one before, and what was said of it.
    here = page.shown
    browser.refresh()
    page.until("document.body.dataset.state === 'ready'")
    assert page.shown == here
    browser.back()
    page.until("document.querySelector('.badge.said') !== null")
    assert page.shown[0] == first[0] and "Different" in page.text(".badge.said")
    browser.forward()
    page.until(f"document.querySelector('#left .title').textContent === '{here[0]}'")
    page.until("document.body.dataset.state === 'ready'")
    assert [log for log in browser.get_log("browser") if log["level"] == "SEVERE"] == []

    # Two tabs: the other one's answer is this one's, too.
    mine = browser.current_window_handle
    browser.switch_to.new_window("tab")
    page.open(ada.address)
    assert press("s") == here
    browser.close()
    browser.switch_to.window(mine)
    assert page.shown == here
    assert page.press("s") == here and said(folder) == expected

    # The program is killed; the page keeps the answer, and sends it when it is back.
    here = page.shown
    ada.kill()
    page.type("s")
    page.until("!document.getElementById('alert').hidden")
    assert "is kept here" in page.text("#alert")
    ada.start()
    page.until(f"document.querySelector('#left .title').textContent !== '{here[0]}'")
    page.until("document.body.dataset.state === 'ready'")
    expected.extend(decided(here, "s", "Ada"))
    assert said(folder) == expected and page.script("document.getElementById('alert').hidden")
    press("n")
    assert len({asked[1:] for asked in expected}) >= 10

    # Somebody else is asked about everything, and is not told what was said.
    with reviewing(folder, "Bo") as bo:
        page.open(bo.address)
        assert page.shown == ["visit 0", "Kesi"]
        assert page.script("document.querySelector('.badge.said')") is None
        press("d", "Bo")
        page.view("progress", "Bo said Different Kesi")
        assert "Ada said Same Kesi" in page.text("#view-progress")
        page.view("catalogue", "but they are different")  # the conflict, with its proof


@needs_browser
def test_several_who_are_unlikely_are_shown_at_once(tmp_path, browser):
    names = [f"seal {n}" for n in range(12)]
    likely = {2: (0.08,) * 12}  # about this one, pressing a key once is not enough
    folder = write_files(
        tmp_path / "herd", 3, names, chances=lambda n: likely.get(n, (0.05 - n / 1000,) * 12)
    )
    (folder / "known-8-left.jpg").write_bytes(b"no photograph")
    page = Page(browser)
    browser.get_log("browser")  # of other tests

    def lineup():
        return page.script(
            "[...document.querySelectorAll('#lineup li')].map(card => card.textContent)"
        )

    def settled(code):
        page.until(f"{code} && document.body.dataset.state === 'ready'")

    with reviewing(folder) as client:
        page.open(client.address)
        # The likeliest question is saved when its key is pressed twice.
        shown = [f"{(n + 1) % 10} seal {n} 8\u00a0%" for n in range(10)]
        shown[8] = "known-8-left.jpg cannot be shown: " + shown[8]
        page.until("document.querySelector('#lineup .warn') !== null")
        assert lineup() == shown and page.text("#left .title") == "visit 2"
        sizes = page.script(
            "[...document.querySelectorAll('#lineup img')].map(image => image.naturalWidth)"
        )
        assert sizes == [64] * 9
        browser.refresh()
        page.until("document.body.dataset.state === 'ready'")
        assert lineup() == shown
        page.type("s")
        page.until("!document.getElementById('alert').hidden")
        page.type("m")  # of all of them there are no spots to show
        page.until("document.getElementById('alert').hidden")
        page.type("md")
        page.until("document.getElementById('alert').textContent.includes('once more')")
        assert said(folder) == []
        page.type("d")
        # Two are left, and are likely now, so each is looked at alone.
        settled("document.querySelector('#right .title').textContent === 'seal 10'")
        assert page.text("#left .title") == "visit 2" and lineup() == []
        ruled_out = [("different", "new-2-0.jpg", f"known-{n}-left.jpg", "Ada") for n in range(10)]
        assert said(folder) == ruled_out
        page.until("document.getElementById('counts').textContent.includes('1 answered')")
        # Undone as one, and asked again as it was.
        page.type("u")
        settled("document.querySelectorAll('#lineup li').length === 10")
        assert said(folder) == [] and lineup() == shown
        # The arrow leads to the first. One of them is looked at; the others come back by a key.
        page.type("\ue014")  # right
        settled("document.querySelector('#right .title').textContent === 'seal 0'")
        page.until("!document.body.classList.contains('busy')")
        page.type("l")
        page.until("document.querySelectorAll('#lineup li').length === 10")
        page.until("!document.body.classList.contains('busy')")
        page.type("4")
        settled("document.querySelector('#right .title').textContent === 'seal 3'")
        page.until("!document.body.classList.contains('busy')")
        assert lineup() == []
        page.type("l")
        page.until("document.querySelectorAll('#lineup li').length === 10")
        page.until("!document.body.classList.contains('busy')")
        page.type("0")
        settled("document.querySelector('#right .title').textContent === 'seal 9'")
        page.until("!document.body.classList.contains('busy')")
        page.type("s")
        settled("document.querySelector('#left .title').textContent === 'visit 0'")
        assert said(folder) == [("name", f"new-2-{m}.jpg", "seal 9", "Ada") for m in (0, 1)]
        severe = [log for log in browser.get_log("browser") if log["level"] == "SEVERE"]
        assert [log for log in severe if "/photograph/" not in log["message"]] == []


@needs_browser
def test_names_that_are_code_are_text_and_nothing_is_wider_than_a_phone(tmp_path, browser):
    folder = write_files(tmp_path / "herd", 3, (EVIL, "Mara" * 30, "Zuri"), visit=EVIL + " {}")
    page = Page(browser)
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True},
    )
    with reviewing(folder, EVIL) as client:
        page.open(client.address)
        assert page.shown == [f"{EVIL} 0", EVIL] and EVIL in page.text(".by")
        page.press("s")
        for view, words in (("progress", "Answered"), ("catalogue", "photographs"), ("review", "")):
            page.view(view, words)
            assert page.script("document.documentElement.scrollWidth") == 390
        # Whoever cannot see or point: each button has a name, and all answers can be reached.
        names = page.script(
            "[...document.querySelectorAll('#view-review button')]"
            ".map(button => button.getAttribute('aria-label') ?? button.textContent.trim())"
        )
        assert all(names) and {"Same s", "Different d", "Cannot compare c"} <= set(names)
        assert page.script("document.querySelectorAll('img:not([alt])').length") == 0
