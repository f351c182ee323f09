"""The review page with many encounters: the next question at the server and on the screen.

Probabilities and photographs (1600 x 1200 pixels) are drawn. The page is driven by its keys in
Chromium, as by a reviewer who looks for half a second.
"""

import json
import shutil
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Report, in_process, options, peak_memory
from benchmarks.photographs import photograph
from openanimals.identification.catalogue_file import as_table, write_catalogue
from openanimals.identification.matches import Match, Matches
from openanimals.identification.ranking import Ranking

DRAWN = 60  # photographs; rows of the catalogue are links to them
KNOWN, OWN = 5, 3  # photographs of an individual, and of an encounter
PAIRS = 10  # other encounters that one may be the same as
ANSWERS = ("same", "different", "incomparable", "new", "skip")
SHARES = (0.5, 0.3, 0.1, 0.05, 0.05)


def main() -> None:
    """Measure and report."""
    parser = options(__doc__)
    parser.add_argument("--encounters", type=int, default=10000)
    parser.add_argument("--individuals", type=int, default=1000)
    parser.add_argument("--answers", type=int, default=500)
    asked = parser.parse_args()
    report = Report("review", "python -m benchmarks.review")
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), asked.encounters, asked.individuals)
        found, peak = in_process("benchmarks.review:at_the_server", folder, asked.answers)
        report.line(
            f"{asked.encounters} encounters of {OWN} photographs, {asked.individuals} individuals "
            f"of {KNOWN}, {asked.encounters * PAIRS // 2} pairs of encounters. At the server, "
            f"starting takes {found['start']:.1f} s, and the peak is {peak:.0f} MiB "
            f"({found['before']:.0f} of them packages)."
        )
        rows = [_row(name, found[name]) for name in ("answer, then next question", "undo")]
        if shutil.which("chromedriver"):
            seen, _ = in_process("benchmarks.review:on_the_screen", folder, min(asked.answers, 200))
            rows.append(_row("on the screen: from the key to both photographs", seen["shown"]))
            rows.append(_row("on the screen: ten individuals at once", seen["lineups"]))
        report.table(rows)
        if shutil.which("chromedriver"):
            rate = len(seen["shown"]) / seen["seconds"] * 3600
            report.line(
                f"By keyboard alone, {len(seen['shown'])} answers in {seen['seconds']:.0f} s: "
                f"{rate:.0f} an hour, if looking takes half a second."
            )
    report.publish(asked.write)


def _row(name: str, seconds: list[float]) -> dict[str, Any]:
    return {
        "ms": name,
        "median": 1000 * statistics.median(seconds),
        "95th of a hundred": 1000 * float(np.percentile(seconds, 95)),
        "longest": 1000 * max(seconds),
    }


def write(folder: Path, encounters: int, individuals: int) -> None:
    """Write a catalogue, its photographs and matches into a folder."""
    rng = np.random.default_rng(0)
    for n in range(DRAWN):
        photograph(1200, 1600, n).save(folder / f"drawn-{n}.jpg")
    names = [f"animal {k}" for k in range(individuals)]

    def linked(path: str) -> str:
        (folder / path).symlink_to(f"drawn-{rng.integers(DRAWN)}.jpg")
        return path

    known = [(linked(f"k{k}-{n}.jpg"), names[k]) for k in range(individuals) for n in range(KNOWN)]
    own = [tuple(linked(f"e{e}-{n}.jpg") for n in range(OWN)) for e in range(encounters)]
    rows = [{"path": path, "identity": name} for path, name in known]
    write_catalogue(folder / "herd.csv", as_table(rows + [{"path": p} for o in own for p in o]))
    chances = rng.dirichlet(np.full(individuals, 0.01), encounters)
    chances = (chances * rng.uniform(0.2, 0.999, (encounters, 1))).astype(np.float32)
    new = 1 - chances.sum(axis=1)
    facts = [
        (o, None, None, ("",) * OWN, "unsure", "", float(c.max()), max(0.0, float(n)), ())
        for o, c, n in zip(own, chances, new, strict=True)
    ]
    found = [Match(f"visit {e}", *each) for e, each in enumerate(facts)]
    matches = Matches(found, "", "drawn", "herd.csv", individuals, 0.01, {}, {}, "")
    _write_matches(folder / "matches", matches)
    shape = encounters, individuals
    photographs = np.arange(individuals) * KNOWN + rng.integers(KNOWN, size=shape)
    query = rng.integers(OWN, size=shape)
    listed = [match.encounter for match in found]
    ranking = Ranking(listed, names, [path for path, _ in known], chances, photographs, query)
    ranking.save(folder / "matches")
    _write_groups(folder / "matches", own, listed, rng)


def _write_matches(folder: Path, matches: Matches) -> None:
    """Write what is read of them, without the spreadsheets, which would take minutes."""
    folder.mkdir()
    (folder / "matches.json").write_text(json.dumps(asdict(matches)), encoding="utf-8")


def _write_groups(folder: Path, own: list, listed: list[str], rng: np.random.Generator) -> None:
    ends = rng.integers(len(own), size=(len(own) * PAIRS // 2, 2))
    pairs = [
        [int(i), int(j), float(q), own[i][0], own[j][0]]
        for (i, j), q in zip(ends, rng.uniform(0.001, 1, len(ends)), strict=True)
        if i != j
    ]
    content = {
        "encounters": [{"encounter": name} for name in listed],
        "pairs": pairs,
        "share expected": 0.001,
    }
    (folder / "groups.json").write_text(json.dumps(content), encoding="utf-8")


def at_the_server(folder: str, answers: int) -> dict[str, Any]:
    """Time answers, each until the next question is there, and the undo of some."""
    from openanimals.identification.review.service import Service

    before, start = peak_memory(), time.perf_counter()
    service = Service(f"{folder}/herd.csv", f"{folder}/matches", "Ada")
    question = service.next()
    found: dict[str, Any] = {"before": before, "start": time.perf_counter() - start}
    drawn = np.random.default_rng(1).choice(ANSWERS, answers, p=SHARES)
    times: dict[str, list[float]] = {"answer, then next question": [], "undo": []}
    for n, answer in enumerate(drawn):
        choice = question["choice"]
        start = time.perf_counter()
        number, lineup = question["encounter"]["number"], question["lineup"]
        if lineup and answer in ("same", "different", "incomparable"):
            service.none_of(number, [each["individual"] for each in lineup], "")
        else:
            service.answer(number, choice["individual"], choice["other"], str(answer), "")
        question = service.next()
        times["answer, then next question"].append(time.perf_counter() - start)
        if n % 50 == 49:
            start = time.perf_counter()
            question = service.undo()
            times["undo"].append(time.perf_counter() - start)
    service.evidence.close()
    return found | times


def on_the_screen(folder: str, answers: int) -> dict[str, Any]:
    """Time the page in a browser: from a key to when both photographs of the next are drawn."""
    import socket
    import threading

    import uvicorn
    from selenium import webdriver

    from openanimals.identification.review.app import build_app
    from openanimals.identification.review.service import Service

    place = socket.create_server(("127.0.0.1", 0))
    port = place.getsockname()[1]
    app = build_app(lambda: Service(f"{folder}/herd.csv", f"{folder}/matches", "Bo"), "token", port)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True).start()
    flags = webdriver.ChromeOptions()
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        flags.add_argument(f"--{flag}")
    driver = webdriver.Chrome(flags, webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_window_size(1366, 768)
    driver.set_script_timeout(100)
    driver.get(f"http://127.0.0.1:{port}/?token=token")
    keys = "".join(np.random.default_rng(2).choice([*"sdcnk"], answers, p=SHARES))
    found: dict[str, Any] = {"shown": [], "lineups": [], "seconds": 0.0}
    for start in range(0, answers, 20):  # a driver's command may not take minutes
        part = driver.execute_async_script(PRESS, keys[start : start + 20])
        found = {name: value + part[name] for name, value in found.items()}
    driver.quit()
    server.should_exit = True
    return found


# In the page, as a driver's own commands take longer than what is measured: a key is pressed when
# the last question and what is prepared ahead (0.5 s, in which a person looks) are there. Every
# tenth time all that are likely are looked at, too.
PRESS = """
const [keys, done] = arguments, body = document.body, shown = [], lineups = [];
const press = key => body.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
const isLineup = () => body.classList.contains("with-lineup");
const isFree = () => !body.classList.contains("busy");
const asked = () => Number(body.dataset.asked ?? 0);
const until = async test => { while (!test()) await new Promise(requestAnimationFrame); };
(async () => {
  await until(() => asked() > 0);
  const begin = performance.now();
  for (const [n, wanted] of [...keys].entries()) {
    await new Promise(ready => setTimeout(ready, 500));
    if (n % 10 === 9 && !isLineup()) {
      const start = performance.now();
      press("l");
      await until(() => isLineup() && isFree());
      await new Promise(requestAnimationFrame);
      lineups.push((performance.now() - start) / 1000);
      press("l");
      await until(() => !isLineup() && isFree());
    }
    const count = asked(), key = isLineup() && "sc".includes(wanted) ? "d" : wanted;
    let start = performance.now();
    press(key);
    await new Promise(requestAnimationFrame);
    if (!document.getElementById("alert").hidden) { // unlikely: it is pressed again
      start = performance.now();
      press(key);
    }
    await until(() => asked() > count);
    await new Promise(requestAnimationFrame);
    shown.push((performance.now() - start) / 1000);
  }
  done({shown, lineups, seconds: (performance.now() - begin) / 1000});
})();
"""


if __name__ == "__main__":
    main()
