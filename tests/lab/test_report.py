"""The page of a comparison in a real browser, and the tables beside it."""

import base64
import csv
import json
import math
import re

import pyarrow.parquet as pq
import pytest
from browser import Browser

from untuned.lab.comparison.contestants import CONTESTANTS, contestant_of
from untuned.lab.comparison.plan import Comparison, Problem
from untuned.lab.comparison.standings import standings
from untuned.lab.comparison.step_times import StepTime, StepTimes, TimeKey
from untuned.lab.comparison.trials import Trials, train_trial
from untuned.lab.programs.report import main
from untuned.lab.report.page import PALETTE, _colours, _in_order
from untuned.lab.report.tables import details, matrix, overview

pytestmark = pytest.mark.integration

NAMES = ["agd", "adam / sgd", "adamw-tuned", "sgdm(lr=1000000.0)"]
PROBLEMS = [Problem("fcn2-digits", "small", 12), Problem("fcn8-digits", "small", 12)]


@pytest.fixture(scope="module")
def comparison():
    return Comparison([contestant_of(name) for name in NAMES], PROBLEMS, 2, "untuned compare ...")


@pytest.fixture(scope="module")
def trials(comparison, tmp_path_factory):
    """Real trainings, a little one for each trial."""
    trials = Trials(tmp_path_factory.mktemp("compare") / "cells.jsonl")
    comparison.save(trials.path.parent)
    while keys := comparison.wanted(trials):
        for key in keys:
            trials.append(train_trial(key))
    return Trials(trials.path)


@pytest.fixture(scope="module")
def times(trials):
    """By hand: AdamW's steps take 2 ms, AGD's 3, and the tower's on one workload 8."""
    times = StepTimes(trials.path.with_name("times.jsonl"))
    for problem in PROBLEMS:
        ms = {key.optimizer: 2.0 for key in trials if key.optimizer.startswith("adamw")}
        ms |= {"agd": 3.0} | ({"adam / sgd(lr=1e-05)": 8.0} if problem == PROBLEMS[0] else {})
        for optimizer, value in ms.items():
            key = TimeKey(problem.workload, problem.size, optimizer)
            times.append(StepTime(key, value, value / 2))
    return times


@pytest.fixture(scope="module")
def folder(trials, times):
    main([str(trials.path.parent)])
    return trials.path.parent


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.driver.quit()


@pytest.fixture(params=[("light", 1280), ("dark", 360)], ids=["desktop", "phone, dark"])
def page(request, browser, folder):
    scheme, width = request.param
    browser.open(folder / "report.html", width, scheme)
    return browser


def unfold(browser):
    """Open all workloads, and look at all that there is."""
    browser.ask("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    browser.scroll_through()


def test_at_first_sight_it_is_short_and_a_link_opens_a_workload(browser, folder):
    browser.open(folder / "report.html")
    browser.scroll_through()
    plots = "return document.querySelectorAll('.workload .plot[data-drawn]').length"
    assert browser.ask(plots) == 0
    assert browser.ask("return document.documentElement.scrollHeight") < 10_000
    links = browser.driver.find_elements("css selector", ".contents a, th a")
    targets = [link.get_attribute("href").split("#")[1] for link in links]
    assert {"summary", "curves", *(problem.workload for problem in PROBLEMS)} <= set(targets)
    missing = "return arguments[0].filter(id => !document.getElementById(id))"
    assert browser.ask(missing, targets) == []
    workload = next(link for link in links if link.text == PROBLEMS[-1].workload)
    browser.ask("arguments[0].click()", workload)
    browser.scroll_through()
    assert browser.ask(plots) == 6  # its own alone
    assert browser.complaints() == []


def test_no_two_optimizers_of_the_table_look_alike():
    names = [contestant.name for contestant in CONTESTANTS]
    hues, dashed = _colours(names), _in_order(names)[len(PALETTE) :]
    assert len({(hues[name], name in dashed) for name in names}) == len(names)


def test_every_figure_is_drawn_when_it_comes_into_view(page):
    drawn = "return document.querySelectorAll('.plot[data-drawn]').length"
    all_of_them = page.ask("return document.querySelectorAll('.plot').length")
    assert all_of_them == 1 + len(PROBLEMS) * 6  # the profile; five figures and a tower's floors
    assert page.ask(drawn) < all_of_them
    unfold(page)
    assert page.ask(drawn) == all_of_them
    lines = "return [...arguments[0]].map(plot => plot.querySelectorAll('.js-line').length)"
    assert min(page.ask(lines, page.driver.find_elements("class name", "plot"))) >= 1
    assert page.complaints() == []
    assert page.requests() == []


def test_nothing_sticks_out_of_the_screen(page):
    unfold(page)
    width = page.ask("return [document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1]


def test_the_page_follows_the_colours_of_the_system(browser, folder):
    def brightness():
        colour = browser.ask("return getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    browser.open(folder / "report.html", scheme="light")
    light = brightness()
    browser.open(folder / "report.html", scheme="dark")
    assert brightness() < 150 < 600 < light


def test_tables_sort_by_click_and_by_key(page):
    column = """
        const [table, index] = arguments;
        return [...document.querySelectorAll('table')[table].tBodies[0].rows]
            .map(row => row.cells[index].dataset.value)"""
    heads = page.driver.find_elements("css selector", "#summary thead button")

    def of(index):
        return [math.nan if v == "nan" else float(v) for v in page.ask(column, 0, index)]

    trainings = [head.text for head in heads].index("trainings")
    page.ask("arguments[0].scrollIntoView()", heads[trainings])
    heads[trainings].click()
    assert of(trainings) == sorted(of(trainings), reverse=True)
    heads[trainings].send_keys("\ue007")  # Enter
    assert of(trainings) == sorted(of(trainings))
    assert heads[trainings].find_element("xpath", "..").get_attribute("aria-sort") == "ascending"
    heads[0].click()
    assert page.ask(column, 0, 0) == sorted(NAMES)
    page.ask("document.querySelector('#summary .scroll').scrollLeft = 0")  # as a finger would
    heads[1].click()  # what has no number comes last
    numbers = [value for value in of(1) if not math.isnan(value)]
    assert of(1)[: len(numbers)] == sorted(numbers, reverse=True)


def test_an_optimizer_can_be_hidden_everywhere(browser, folder):
    browser.open(folder / "report.html")
    unfold(browser)
    count = "return document.querySelectorAll('[data-kind=valid] .js-line').length"
    before = browser.ask(count)
    browser.driver.find_element("css selector", ".chips [data-contestant=agd]").click()
    assert browser.ask(count) < before
    assert browser.complaints() == []


def test_curves_can_be_over_seconds(browser, folder):
    browser.open(folder / "report.html")
    unfold(browser)
    ends = """
        return Object.fromEntries(document.querySelector('[data-kind=valid]').data
            .filter(line => line.name).map(line => [line.name, line.x[line.x.length - 1]]))"""
    title = "return document.querySelector('[data-kind=valid] .xtitle').textContent"
    switch = browser.driver.find_element("id", "clock")
    assert browser.ask(title) == "steps"
    last = browser.ask(ends)
    assert {name: last[name] for name in NAMES[:3]} == dict.fromkeys(NAMES[:3], 12)
    switch.click()
    assert browser.ask(title) == "seconds"
    seconds = {"adamw-tuned": 12 * 0.002, "agd": 12 * 0.003, "adam / sgd": 12 * 0.008}
    assert browser.ask(ends) == pytest.approx(seconds)  # without the one that is not timed
    switch.click()
    assert browser.ask(title) == "steps"
    assert browser.complaints() == []


def test_printing_draws_all_figures(browser, folder):
    browser.open(folder / "report.html")
    told = browser.driver.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    pdf = base64.b64decode(told["data"])
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 2 + len(PROBLEMS)
    browser.open(folder / "report.html")
    browser.ask("dispatchEvent(new Event('beforeprint'))")
    assert browser.ask("return document.querySelectorAll('.plot:not([data-drawn])').length") == 0
    widths = "return [...document.querySelectorAll('.main-svg')].map(s => s.clientWidth)"
    assert max(browser.ask(widths)) <= 700  # A4


def test_the_page_says_what_failed_and_how_it_was_made(folder, trials):
    html = (folder / "report.html").read_text(encoding="utf-8")
    diverged = [trial for trial in trials.values() if trial.status == "diverged"]
    assert len(diverged) >= 2 * len(PROBLEMS)
    assert html.count(">diverged at step") == len(diverged)
    assert all(trial.command.replace("'", "&#39;") in html for trial in trials.values())
    assert "torch " + next(iter(trials.values())).versions["torch"] in html
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=.(?!data:)", html)


def test_csv_and_parquet_have_a_row_for_each_cell(folder, trials, times):
    with (folder / "cells.csv").open() as file:
        rows = list(csv.DictReader(file))
    parquet = pq.read_table(folder / "cells.parquet").to_pylist()
    assert [row["optimizer"] for row in rows] == [key.optimizer for key in trials]
    for row, told, trial in zip(rows, parquet, trials.values(), strict=True):
        assert (told["seed"], told["status"]) == (trial.key.seed, trial.status)
        assert float(row["valid_loss"]) == told["valid_loss"] == trial.last("valid_loss")
        time = times.get(trial.key[:3])
        assert row["timed_ms"] == (f"{time.ms}" if time else "")


def test_the_tables_say_what_was_measured(comparison, trials, times, folder):
    found = standings(comparison, trials, times)
    total = overview(found)
    names = [row[0].text for row in total.rows]
    assert set(names) == set(NAMES)
    reference = total.rows[names.index("adamw-tuned")]
    assert [entry.text for entry in reference[1:6]] == ["1.00"] * 4 + ["2 of 2"]
    assert reference[8].value >= 15
    diverging = total.rows[names.index("sgdm(lr=1000000.0)")]
    assert [entry.text for entry in diverging[4:6]] == ["0.05", "0 of 2"]
    assert diverging[-1].text == "4 of 4"
    assert matrix(found, NAMES).rows[0][4].text == "never"
    text = (folder / "summary.md").read_text(encoding="utf-8")
    assert "| adamw-tuned | 1.00 | 1.00 | 1.00 | 1.00 | 2 of 2 |" in text
    assert "Seconds saved by workload" in text
    own = [standing for standing in found if standing.problem == PROBLEMS[0]]
    losses = [row[2].value for row in details(own).rows]
    assert losses == sorted(losses)


def test_a_page_of_part_of_a_comparison_can_be_drawn(trials, comparison, tmp_path):
    for some in (0, 1, len(trials) // 2):
        part = Trials(tmp_path / f"{some}" / "cells.jsonl")
        comparison.save(part.path.parent)
        for trial in list(trials.values())[:some]:
            part.append(trial)
        main([str(part.path.parent)])
        html = (part.path.parent / "report.html").read_text(encoding="utf-8")
        data = re.search(r'id="data">(.*?)</script>', html, re.DOTALL)[1]
        assert len(json.loads(data)["workloads"]) == min(some, 1) + (some > 20)


def test_without_a_tuned_adamw_a_terminal_shows_losses(trials, tmp_path, capsys):
    Comparison([contestant_of("agd")], PROBLEMS, 2).save(tmp_path)
    part = Trials(tmp_path / "cells.jsonl")
    for trial in trials.values():
        if trial.key.optimizer == "agd":
            part.append(trial)
    main([str(tmp_path)])
    shown = capsys.readouterr().out
    for problem in PROBLEMS:
        own = [t.last("valid_loss") for t in part.values() if t.key.workload == problem.workload]
        assert problem.workload in shown
        assert f"{sum(own) / len(own):.4g}" in shown


def test_a_folder_without_a_comparison_is_told_of(tmp_path):
    with pytest.raises(SystemExit, match="holds no comparison"):
        main([str(tmp_path)])
