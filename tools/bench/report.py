"""The results as a table on the terminal, as JSON, and as docs/benchmarks.md."""
import statistics

from contenders import PEERS


def number(x, unit=""):
    """A ratio with two decimals, a large figure without."""
    return f"{x:,.0f}" if unit and abs(x) >= 100 else f"{x:.2f}"


def summary(row, rounds):
    """Median, lowest and highest of the rounds, and the verdict; None when nothing was measured."""
    values = [v for v in (row.value(results) for results in rounds) if v is not None]
    if not values:
        return None
    median, low, high = statistics.median(values), min(values), max(values)
    text = number(median, row.unit) + (f" {row.unit}" if row.unit else "")
    if len(values) > 1:
        text += f" [{number(low, row.unit)} - {number(high, row.unit)}]"
    return {"row": row.name, "title": row.title, "median": median, "min": low, "max": high,
            "rounds": len(values), "goal": row.goal, "met": row.met(median), "text": text}


def verdict(met):
    return {True: "met", False: "missed", None: ""}[met]


def figures_of(name, rounds):
    """Medians over the rounds of what one measurement gave."""
    results = [r[name] for r in rounds if name in r]
    return {key: statistics.median(r[key] for r in results)
            for key in results[0] if isinstance(results[0][key], (int, float))
            and all(key in r for r in results)} if results else {}


FIGURES = (("per_second", "per second", "{:,.0f}"), ("p50", "p50 us", "{:,.0f}"),
           ("p99", "p99 us", "{:,.0f}"), ("p99.9", "p99.9 us", "{:,.0f}"),
           ("max", "max us", "{:,.0f}"), ("server_us_per_answer", "server CPU us", "{:.1f}"),
           ("client_cpu_percent", "client CPU %", "{:.0f}"))


def tables(groups, rounds, names):
    """(title, rows of text) of the goals, then of the plain figures."""
    goals = []
    for title, rows in groups:
        for row in rows:
            s = summary(row, rounds)
            if s:
                goals.append((title, row.title, s["text"], row.goal, verdict(s["met"])))
    plain = []
    for name in names:
        figures = figures_of(name, rounds)
        if figures:
            plain.append((name, *(form.format(figures[key]) if key in figures else ""
                                  for key, _, form in FIGURES)))
    return goals, plain


def print_tables(goals, plain, out):
    last = None
    for title, *cells in goals:
        if title != last:
            print(f"\n{title}", file=out)
        last = title
        print("  {:<58} {:<34} {:<11} {}".format(*cells).rstrip(), file=out)
    print("\n{:<24}{:>12}{:>9}{:>9}{:>10}{:>10}{:>15}{:>14}".format(
        "medians", *(label for _, label, _ in FIGURES)), file=out)
    for cells in plain:
        print("{:<24}{:>12}{:>9}{:>9}{:>10}{:>10}{:>15}{:>14}".format(*cells), file=out)


def print_overload(head, rows, out):
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    print("\noverload", file=out)
    for cells in (head, *rows):
        print("  " + "  ".join(c.rjust(w) for c, w in zip(cells, widths)), file=out)


OVERLOAD_MARKS = ("<!-- overload -->", "<!-- end of overload -->")


def overload_part(base, table):
    return (f"1x is {base:,.0f} purchases a second.\n\n![Overload](overload.svg)\n\n"
            + markdown_table(*table))


def overload_part_of(file):
    """The part as an earlier run wrote it."""
    begin, end = OVERLOAD_MARKS
    text = file.read_text() if file.exists() else ""
    if begin not in text:
        return ""
    return text.split(begin, 1)[1].split(end, 1)[0].strip()


def markdown_table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(cells) + " |" for cells in rows])


def quoted(file, kind):
    return f"`tools/bench/peers/{file}`\n\n```{kind}\n{(PEERS / file).read_text().rstrip()}\n```\n"


def markdown(bench, machine, rounds, goals, plain, overload):
    template = (PEERS.parent / "benchmarks.md.in").read_text()
    nginx_trial = bench.facts.get("nginx_trial")
    places = {
        "machine": markdown_table(("what", "which"), sorted(machine.items())),
        "command": bench.command,
        "rounds": bench.rounds, "seconds": f"{bench.seconds:g}",
        "goals": markdown_table(("load", "row", "median [lowest - highest]", "goal", ""), goals),
        "figures": markdown_table(("measurement", *(label for _, label, _ in FIGURES)), plain),
        "nginx_trial": ", ".join(f"{n}: {rate:,.0f}/s" for n, rate in nginx_trial.items())
                       if nginx_trial else "not run",
        "open_rate": f"{figures_of('open_rate', rounds).get('per_second', 0):,.0f}",
        "events": f"{bench.events:,}",
        "overload": "\n".join((OVERLOAD_MARKS[0], overload or "Not run yet.", OVERLOAD_MARKS[1])),
        "configurations": "\n".join((
            quoted("fairsaled.toml", "toml"), quoted("redis.conf", "conf"),
            quoted("reserve.lua", "lua"), quoted("nginx.conf", "nginx"),
            quoted("purchase.lua", "lua"), quoted("postgresql.conf", "conf"),
            quoted("schema.sql", "sql"), quoted("purchase.sql", "sql"))),
    }
    for name, text in places.items():
        template = template.replace("{{" + name + "}}", str(text), 1)
    return template
