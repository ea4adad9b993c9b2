"""Turns the results of `run` into a Markdown report and a plot."""

from statistics import median

TITLES = {
    "publish": "Publish",
    "subscribe": "Subscribe",
    "request": "Requests, one after the other",
    "parallel": "Requests, 128 at a time",
}
SERVERS = {"null": "null server", "nats-server": "nats-server", "tls": "nats-server, TLS"}
NAMES = {"raw": "raw socket", "natseq-next": "natseq, `next`", "natseq-sequenced": "natseq, sequenced"}

METHOD = """\
**Method.** One contender in one workload is one process, pinned to a core; the server has another. The *null server* is the
cheapest peer that speaks the protocol: it sends prepared bytes, answers requests from one thread, and skips what is
published. Behind the real nats-server a raw client on the server's core feeds and answers. Every contender runs once per
round, in rotating order. Ratios are taken inside a round against the *raw socket*, a blocking client that does the minimum;
each figure is the median over the rounds. A tenth of the messages goes before the clock starts.

* Publishing ends when the server has taken everything: the answer to a last request on the same connection says so.
* A subscriber acknowledges every 512 KiB or 4,096 messages, and the sender keeps four such bursts unacknowledged, so that
  nobody drops. For watermelon, whose subscriptions hold 256 messages, a burst is 32.
* A subscriber looks at each payload's length and, where there are headers, looks one of the two up.
* Of 128 requests at a time the raw socket writes as many as 128 KiB hold at once, and then reads their answers.
* CPU is user and system time of the client's whole process, with its share of the loopback's work in the kernel.
* Rust clients run on tokio's current-thread runtime, except where two threads are named, which share the
  client's core; nats.c has threads of its own.
* *natseq, sequenced* publishes through a `SequencedPublisher`, which stamps and retains each message, and receives, delivered
  `Immediate`, what a source has stamped; it fails when a number is missing. Without it there is no header at all.
* natseq takes messages by `next_batch`; the column *next* is the same client by `next`. async-nats has a subscription
  capacity of 65,536 and the largest read buffer. nats.c delivers by callback, without pending limits, to many
  subscriptions from its shared threads. Prepared messages are passed as each API takes them: by reference or as a clone.

**Limits.** Loopback on one machine: no network, and the two ends share its caches. Against the real server the server is
the bottleneck of most rates; the CPU column compares clients there too. Figures of one machine at one time: ratios carry
over better than nanoseconds."""


def markdown(results):
    machine, cells = results["machine"], results["cells"]
    parts = ["# Measured beside other clients", "", about(machine), "", METHOD, ""]
    parts += ["Each entry: client CPU per message, its ratio to the raw socket, and messages per second.", ""]
    for group in ["publish", "subscribe", "parallel"]:
        rows = [cell for cell in cells if cell["group"] == group]
        if rows:
            parts += [f"## {TITLES[group]}", "", table(rows, cpu_entry), ""]
    rows = [cell for cell in cells if cell["group"] == "request"]
    if rows:
        parts += [f"## {TITLES['request']}", "", "Median latency, its ratio, and client CPU per request.", ""]
        parts += [table(rows, latency_entry), ""]
    for workload in ["publish", "subscribe"]:
        rows = [cell for cell in cells if cell["group"] == "sequencing" and cell["workload"] == workload]
        if rows:
            parts += [f"## Sequencing: {TITLES[workload].lower()}", "", "The ratio is to natseq without it.", ""]
            parts += [table(rows, cpu_entry), ""]
    for workload, entry in [("publish", cpu_entry), ("subscribe", cpu_entry), ("request", latency_entry)]:
        rows = [cell for cell in cells if cell["group"] == "tls" and cell["workload"] == workload]
        if rows:
            parts += [f"## TLS: {TITLES[workload].lower()}", "", table(rows, entry), ""]
    parts += scale(cells) + tail(cells)
    return "\n".join(parts).rstrip() + "\n"


def about(machine):
    rounds = count(machine["rounds"], "round")
    lines = [
        f"Measured on {machine['date']}: {machine['cpu']}, {machine['cores']} cores, {machine['system']}, Linux "
        f"{machine['kernel']}, {machine['rustc']}; {rounds} in {machine['seconds']} s, load "
        f"{machine['load']} at the beginning.",
        f"natseq {machine['natseq']}, async-nats {machine['async-nats']}, watermelon {machine['watermelon']}, nats.c "
        f"{machine['nats.c']} (Debian's), nats-server {machine['nats-server']}, tokio {machine['tokio']}.",
    ]
    if machine["real_time"]:
        lines.append("**Run with real-time priority beside other work on the machine.**")
    if machine["quick"]:
        lines.append("**A smoke run with tiny counts: no figures to rely on.**")
    lines.append("`benches/peers/run --write` measures again.")
    return "\n".join(lines)


def table(cells, entry):
    clients = contenders(cells)
    lines = []
    for cell in cells:
        settings = cell["settings"]
        server = SERVERS[cell["server"]]
        if settings.get("threads", 1) > 1:
            server += f", {settings['threads']} threads"
        words = [server, size(settings["bytes"]), "2" if settings["headers"] else "-"]
        lines.append(words + [entry(cell, client) for client in clients])
    return grid(["server", "payload", "headers"], clients, lines)


def grid(columns, clients, lines):
    """A table of lines, each of words for the columns and an entry for each client."""
    head = columns + [NAMES.get(client, client) for client in clients]
    rule = ["---"] * len(columns) + ["---:"] * len(clients)
    return "\n".join(row(words) for words in [head, rule, *lines])


def contenders(cells):
    """Those that took part, in the order of the first that names them."""
    found = []
    for cell in cells:
        found += [client for client in cell["contenders"] if client not in found]
    return sorted(found, key=lambda client: client != "raw")


def cpu_entry(cell, client):
    if client not in cell["runs"]:
        return "-"
    rate = middle(cell, client, lambda run: run["messages"] * 1e9 / run["wall_ns"])
    return f"{time(cpu(cell, client))}{times(cell, client, cpu_of)}, {rate_text(rate)}"


def latency_entry(cell, client):
    if client not in cell["runs"]:
        return "-"
    latency = middle(cell, client, lambda run: run["p50_ns"])
    return f"{time(latency)}{times(cell, client, lambda run: run['p50_ns'])}, CPU {time(cpu(cell, client))}"


def scale(cells):
    cells = [cell for cell in cells if cell["group"] == "scale"]
    parts = []

    def section(title, text, workload, column, key, entry):
        rows = [cell for cell in cells if cell["workload"] == workload]
        if not rows:
            return
        clients = contenders(rows)
        lines = [[key(cell["settings"])] + [entry(cell, client) for client in clients] for cell in rows]
        parts.extend([f"## {title}", "", text, "", grid([column], clients, lines), ""])

    def plain_cpu(cell, client):
        if client not in cell["runs"]:
            return "-"
        rate = middle(cell, client, lambda run: run["messages"] * 1e9 / run["wall_ns"])
        return f"{time(cpu(cell, client))}, {rate_text(rate)}"

    def memory(cell, client):
        if client not in cell["runs"]:
            return "-"
        return f"{middle(cell, client, lambda run: run['bytes_each']):,.0f} B"

    section("Scale: subscriptions of one connection", "16 B messages to one of the subscriptions, or to each in turn, null "
            "server: client CPU per message, messages per second. In turn is the hardest order: every message goes to another "
            "queue and another reader, so that nothing is handed over in batches, and the memory of many is not in the caches.", "subscribe", "subscriptions",
            active, plain_cpu)
    section("Scale: publishing tasks of one client", "16 B messages, null server: client CPU per message, messages per "
            "second.", "publish", "tasks",
            lambda settings: f"{settings['tasks']} on {threads(settings)}", plain_cpu)
    section("Scale: memory of an idle subscription", "Growth of the process's resident memory, divided.",
            "idle-subscriptions", "subscriptions", lambda settings: f"{settings['subscriptions']:,}", memory)
    section("Scale: memory of an idle connection", "Growth of the process's resident memory, divided; after the handshake, "
            "nothing else.",
            "idle-connections", "connections", lambda settings: f"{settings['connections']:,}", memory)
    return parts


def tail(cells):
    cells = [cell for cell in cells if cell["group"] == "tail"]
    if not cells:
        return []
    rate, many = cells[0]["settings"]["rate"], cells[0]["settings"]["messages"]
    parts = [
        "## Tail: request latency at a fixed rate", "",
        f"Open loop: {rate:,} requests of 128 B begin each second whether or not earlier ones were answered, {many:,} in a "
        "run; latency counts from when a request was due, so it holds the timer's lateness too, for everybody alike. "
        "p50 / p99 / p99.9.", "",
    ]
    clients = contenders(cells)
    lines = []
    for cell in cells:
        entries = [
            " / ".join(time(middle(cell, client, lambda run: run[key])) for key in ["p50_ns", "p99_ns", "p999_ns"])
            for client in clients
        ]
        lines.append([SERVERS[cell["server"]]] + entries)
    return parts + [grid(["server"], clients, lines), ""]


def in_readme(text, results):
    """README with its table between the two marks replaced."""
    before, rest = text.split(README_BEGIN)
    _, after = rest.split(README_END)
    return before + README_BEGIN + "\n" + summary(results) + "\n" + README_END + after


def summary(results):
    """A few rows for the README."""
    machine, cells = results["machine"], results["cells"]
    clients = list(COLOURS)
    lines = [
        f"natseq {machine['natseq'].split()[0]}, async-nats {machine['async-nats']}, watermelon {machine['watermelon']}, "
        f"nats.c {machine['nats.c']}; {machine['cpu']}, {machine['date']}."
        + (" Run with real-time priority beside other work." if machine["real_time"] else ""),
        "",
    ]
    rows = []

    def add(title, entry, **wanted):
        for cell in cells:
            found = {**cell, **cell["settings"]}
            if all(found.get(key) == value for key, value in wanted.items()):
                entries = [entry(cell, client) if client in cell["runs"] else "-" for client in clients]
                rows.append([title, *entries])
                return

    def short(cell, client):
        return f"{time(cpu(cell, client))}{times(cell, client, cpu_of)}"

    for workload, name in [("publish", "publish"), ("subscribe", "receive")]:
        for length, headers in [(16, 0), (16, 1), (1024, 0), (8192, 0)]:
            title = f"{name} {size(length)}" + (" with two headers" if headers else "")
            add(title, short, workload=workload, server="null", bytes=length, headers=headers, group=workload)
    def sequenced(cell, _):
        return f"{short(cell, 'natseq-sequenced')} of natseq without"

    for workload, name in [("publish", "publish"), ("subscribe", "receive")]:
        add(f"{name} 16 B with sequencing", sequenced, group="sequencing", workload=workload, server="null", bytes=16)
    add("request, 128 at a time", short, group="parallel", server="null", bytes=16, headers=0)

    def latency(cell, client):
        return " / ".join(time(middle(cell, client, lambda run: run[key])) for key in ["p50_ns", "p99_ns"])

    rates = [cell["settings"]["rate"] for cell in cells if cell["group"] == "tail"]
    for rate in rates[:1]:
        add(f"latency p50 / p99 at {rate:,} requests a second, nats-server", latency, group="tail", server="nats-server")

    def memory(cell, client):
        return f"{middle(cell, client, lambda run: run['bytes_each']):,.0f} B"

    add("memory of an idle subscription", memory, workload="idle-subscriptions")
    add("memory of an idle connection", memory, workload="idle-connections")
    return "\n".join([*lines, grid(["client CPU per message, times a raw socket's"], clients, rows)])


README_BEGIN = "<!-- what benches/peers/run measured -->"
README_END = "<!-- end -->"


def svg(results):
    """Four panels: CPU of publish, subscribe and parallel requests against a raw socket, and the tail."""
    cells = results["cells"]

    def plain(group):
        return [
            cell for cell in cells
            if cell["group"] == group and cell["server"] == "null" and not cell["settings"].get("headers")
            and cell["settings"].get("threads", 1) == 1
        ]

    panels = []
    for group, title in [("publish", "Publish"), ("subscribe", "Subscribe"), ("parallel", "128 requests at a time")]:
        found = [
            (size(cell["settings"]["bytes"]), [
                (client, ratio(cell, client, cpu_of)) for client in COLOURS if client in cell["runs"]
            ])
            for cell in plain(group) if "raw" in cell["runs"]
        ]
        panels.append((title, "client CPU per message, times a raw socket's", found, lambda value: f"{value:.1f}"))
    found = []
    for cell in cells:
        if cell["group"] == "tail" and cell["server"] == "nats-server":
            for key, name in [("p50_ns", "p50"), ("p99_ns", "p99"), ("p999_ns", "p99.9")]:
                found.append((name, [
                    (client, middle(cell, client, lambda run, key=key: run[key]) / 1e3)
                    for client in COLOURS if client in cell["runs"]
                ]))
    panels.append((
        "Request latency at a fixed rate", "microseconds, open loop, through a real nats-server", found,
        lambda value: f"{value:.0f}",
    ))
    panels = [panel for panel in panels if panel[2]]
    rows = (len(panels) + 1) // 2
    parts = [HEAD.format(width=2 * PANEL_WIDTH, height=LEGEND_HEIGHT + rows * PANEL_HEIGHT)]
    for index, (client, colour) in enumerate(COLOURS.items()):
        x = 24 + index * 120
        parts.append(f'<rect x="{x}" y="14" width="12" height="12" rx="2" fill="{colour}"/>')
        parts.append(f'<text x="{x + 18}" y="24.5" class="strong">{client}</text>')
    parts.append(f'<text x="{2 * PANEL_WIDTH - 24}" y="24.5" text-anchor="end" class="soft">lower is better, ↑ bar is cut</text>')
    for index, panel in enumerate(panels):
        x, y = index % 2 * PANEL_WIDTH, LEGEND_HEIGHT + index // 2 * PANEL_HEIGHT
        parts += plot(x, y, *panel)
    return "\n".join([*parts, "</svg>"]) + "\n"


def plot(left, top, title, unit, groups, label):
    """One panel of grouped bars: a baseline, a bar with its value on top, the group's name below."""
    parts = [
        f'<text x="{left + 24}" y="{top + 22}" class="title">{title}</text>',
        f'<text x="{left + 24}" y="{top + 39}" class="soft">{unit}</text>',
    ]
    bottom, height = top + PANEL_HEIGHT - 34, PANEL_HEIGHT - 100
    tops = {}
    for client, value in (bar for _, bars in groups for bar in bars):
        tops[client] = max(value, tops.get(client, 0))
    *_, second, highest = [0, *sorted(tops.values())]
    # Bars far above those of all the others are cut, so that the others can be read.
    if highest > 2.5 * second > 0:
        highest = 1.5 * second
    share = (PANEL_WIDTH - 48) / len(groups)
    for number, (name, bars) in enumerate(groups):
        width = min((share - 16) / len(bars), 26)
        begin = left + 24 + number * share + (share - width * len(bars)) / 2
        for turn, (client, value) in enumerate(bars):
            tall = max(min(value / highest, 1) * height, 1)
            text = label(value) + ("↑" if value > highest else "")
            x, y = begin + turn * width, bottom - tall
            parts.append(
                f'<rect x="{x + 1:.1f}" y="{y:.1f}" width="{width - 2:.1f}" height="{tall:.1f}" rx="1.5" '
                f'fill="{COLOURS[client]}"/>'
            )
            parts.append(
                f'<text x="{x + width / 2:.1f}" y="{y - 4:.1f}" text-anchor="middle" class="value">{text}</text>'
            )
        parts.append(
            f'<text x="{left + 24 + (number + 0.5) * share:.1f}" y="{bottom + 17}" text-anchor="middle">{name}</text>'
        )
    parts.append(f'<path d="M{left + 24} {bottom + .5}H{left + PANEL_WIDTH - 24}" class="line"/>')
    return parts


COLOURS = {"natseq": "#2f7de1", "async-nats": "#e0892b", "watermelon": "#35a06f", "nats.c": "#9a72c7"}
PANEL_WIDTH, PANEL_HEIGHT, LEGEND_HEIGHT = 430, 260, 40

# Readers with a dark page get light letters.
HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" \
aria-label="Processor time per message and request latency of natseq beside other clients">
<style>
text {{ font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #24292f; }}
.title {{ font-size: 15px; font-weight: 600; }}
.strong {{ font-weight: 600; }}
.soft {{ fill: #656d76; }}
.value {{ font-size: 10px; }}
.line {{ stroke: #8c959f; fill: none; }}
@media (prefers-color-scheme: dark) {{
  text {{ fill: #e6edf3; }}
  .soft {{ fill: #9198a1; }}
}}
</style>"""


def cpu_of(run):
    return run["cpu_ns"] / run["messages"]


def cpu(cell, client):
    return middle(cell, client, cpu_of)


def middle(cell, client, value):
    return median(value(run) for run in cell["runs"][client])


def bound(cell):
    """Whom ratios are to: the raw socket, or natseq as it is without sequencing."""
    return "natseq" if cell["group"] == "sequencing" else "raw"


def ratio(cell, client, value):
    """The median of the ratios inside each round."""
    pairs = zip(cell["runs"][client], cell["runs"][bound(cell)])
    return median(value(run) / value(against) for run, against in pairs)


def times(cell, client, value):
    if client == bound(cell) or bound(cell) not in cell["runs"]:
        return ""
    return f" ({ratio(cell, client, value):.{2 if bound(cell) == 'natseq' else 1}f}x)"


def row(words):
    return "| " + " | ".join(words) + " |"


def count(number, word):
    return f"{number} {word}" + ("" if number == 1 else "s")


def active(settings):
    if settings["subscriptions"] == 1:
        return "1"
    return f"{settings['subscriptions']:,}, " + ("one receives" if settings["active"] == 1 else "each in turn")


def threads(settings):
    return "one thread" if settings["threads"] == 1 else f"{settings['threads']} threads"


def size(length):
    return f"{length} B" if length < 1024 else f"{length // 1024} KiB"


def time(nanos):
    if nanos < 1_000:
        return f"{nanos:.0f} ns"
    if nanos < 1_000_000:
        return f"{nanos / 1e3:.1f} µs"
    return f"{nanos / 1e6:.1f} ms"


def rate_text(rate):
    return f"{rate / 1e6:.2f} M/s" if rate >= 100_000 else f"{rate / 1e3:.0f} k/s"
