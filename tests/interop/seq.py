"""Sequencing, implemented a second time from protocol-notes.md alone: a raw socket and no library.

seq.py URL publish SUBJECT COUNT SOURCE [RETAIN]  publishes "SOURCE 1", "SOURCE 2", ..., numbered, and repairs them;
                                                  a `*` in SUBJECT becomes 0 to 9 in turn, and the scope has the `*`
seq.py URL check FILTER [COUNT]                   prints "ready", then one JSON object for each event, until COUNT
                                                  messages have come, or every source that was heard has ended and
                                                  nothing is undecided

Both print a summary last. There is one connection and no reconnect, so the path keeps its order and a gap is
asked for at once.
"""

import json
import math
import random
import select
import socket
import string
import sys
import time

NUMBER_MAX = 2**53 - 1
JUMP_MAX = 2**20  # a number further ahead is not believed
REPLY_MESSAGES_MAX = 256
REPLY_BYTES_MAX = 256 << 10
REQUEST_RANGES_MAX = 64
REQUEST_BYTES_MAX = 1_024
REPLY_SUBJECT_BYTES_MAX = 128
REPEAT_SECONDS = 0.010  # the same request of the same requester is answered once in this time
FIRST_MIN, FIRST_MAX, INTERVAL_MAX = 0.020, 1.0, 5.0  # heartbeats
LINGER, LINGER_MAX = 2.0, 60.0
AGE_MAX = 60.0  # nothing older is retained
GAP_TIMEOUT = 5.0
DRIFT = 1.001  # by which clocks may differ
WRONG_EPOCHS_MAX, DISOWNED_SECONDS = 4, 2.0
BUDGET, REQUESTER_BUDGET = (4 << 20, 1 << 20), (1 << 20, 512 << 10)  # bytes in a second, and at once
CONTROL = "_SEQ"


class Connection:
    """A connection to a server: frames out, messages in."""

    def __init__(self, url):
        host, port = url.removeprefix("nats://").split(":")
        self.socket = socket.create_connection((host, int(port)))
        self.unread = bytearray()
        self.unsent = bytearray()
        self.sids = 0
        self.info = json.loads(self._line().removeprefix(b"INFO "))
        options = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "protocol": 1}
        options |= {"lang": "python", "version": "0", "name": "seq.py"}
        self.write(b"CONNECT " + json.dumps(options).encode() + b"\r\n")

    def write(self, frame):
        self.unsent += frame
        if len(self.unsent) > 32 << 10:
            self.flush()

    def flush(self):
        self.socket.sendall(self.unsent)
        self.unsent.clear()

    def subscribe(self, subject):
        self.sids += 1
        self.write(f"SUB {subject} {self.sids}\r\n".encode())
        return self.sids

    def publish(self, subject, payload, lines=(), status="", reply=""):
        """Publishes; `lines` are header lines such as `Seq: a.1.1`, `status` is such as ` 204 EOB`."""
        if not lines and not status:
            self.write(f"PUB {subject} {reply} {len(payload)}\r\n".encode() + payload + b"\r\n")
            return
        block = "".join([f"NATS/1.0{status}\r\n", *(f"{line}\r\n" for line in lines), "\r\n"]).encode()
        sizes = f"{len(block)} {len(block) + len(payload)}"
        self.write(f"HPUB {subject} {reply} {sizes}\r\n".encode() + block + payload + b"\r\n")

    def synchronize(self):
        """Waits until the server has read everything written so far."""
        self.write(b"PING\r\n")
        self.flush()
        while self._line() != b"PONG":
            pass

    def messages(self, until):
        """Yields what comes up to the moment `until`: a past moment means what is there already."""
        self.flush()
        while True:
            while b"\r\n" in self.unread:
                message = self._message()
                if message:
                    yield message
            if not select.select([self.socket], [], [], max(0.0, until - time.monotonic()))[0]:
                return
            self._read()
            self.flush()

    def _message(self):
        """Takes one frame; returns what is a message: (sid, subject, reply, status, headers, payload)."""
        verb, *arguments = self._line().decode().split()
        if verb == "PING":
            self.write(b"PONG\r\n")
        if verb == "-ERR":
            sys.exit(" ".join([verb, *arguments]))
        if verb not in ("MSG", "HMSG"):
            return None
        body = self._take(int(arguments[-1]) + 2)[:-2]
        block_len = int(arguments[-2]) if verb == "HMSG" else 0
        reply = arguments[2] if len(arguments) == (5 if verb == "HMSG" else 4) else ""
        status, *lines = body[:block_len].decode().split("\r\n") if block_len else [""]
        headers = {}
        for line in filter(None, lines):
            name, value = line.split(":", 1)
            headers.setdefault(name, value.strip())
        status = status.removeprefix("NATS/1.0").split()[:1]
        return int(arguments[1]), arguments[0], reply, int(status[0]) if status else 0, headers, body[block_len:]

    def _line(self):
        while (end := self.unread.find(b"\r\n")) < 0:
            self._read()
        return self._take(end + 2)[:-2]

    def _take(self, size):
        while len(self.unread) < size:
            self._read()
        taken = bytes(self.unread[:size])
        del self.unread[:size]
        return taken

    def _read(self):
        data = self.socket.recv(1 << 16)
        if not data:
            sys.exit("the server closed the connection")
        self.unread += data


def number(text):
    """Reads decimal digits without leading zeros, below 2^53; None for anything else."""
    is_number = text.isascii() and text.isdigit() and len(text) <= 16 and (text == "0" or text[0] != "0")
    return int(text) if is_number and int(text) <= NUMBER_MAX else None


def stamp(text):
    """Reads `source.epoch.seq` or `source.epoch.seq.prev`, whose prev is None where it is left out; None for no stamp."""
    source, *numbers = (text or "").split(".")
    is_name = 0 < len(source) <= 32 and set(source) <= set(string.ascii_letters + string.digits + "-_")
    numbers = [number(digits) for digits in numbers]
    if not is_name or len(numbers) not in (2, 3) or None in numbers or numbers[0] == 0:
        return None
    return source, *numbers, *[None] * (3 - len(numbers))


def ranges_text(ranges):
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def read_ranges(text):
    """Reads `1017-1019,1025`; None when it is malformed, or its ranges do not ascend."""
    ranges, after = [], 0
    for part in text.split(","):
        ends = [number(digits) for digits in part.split("-")]
        if len(ends) > 2 or None in ends or not after < ends[0] <= ends[-1]:
            return None
        ranges.append((ends[0], ends[-1]))
        after = ends[-1]
    return ranges


def heartbeat_subject(scope):
    return f"{CONTROL}.HB." + scope.replace("*", "_st").replace(">", "_gt")


def is_covered(scope, filter):
    """Whether every subject that `scope` matches is matched by `filter`."""
    scope, filter = scope.split("."), filter.split(".")
    for at, token in enumerate(filter):
        if token == ">":
            return len(scope) > at
        if at >= len(scope) or scope[at] == ">" or (token != "*" and token != scope[at]):
            return False
    return len(scope) == len(filter)


class Budget:
    """Bytes that may be sent. The last message may overdraw them."""

    def __init__(self, per_second, at_once):
        self.per_second, self.at_once = per_second, at_once
        self.left, self.at = at_once, time.monotonic()

    def wait(self):
        """Seconds until something may be sent again: 0 for now."""
        now = time.monotonic()
        self.left = min(self.left + self.per_second * (now - self.at), self.at_once)
        self.at = now
        return max(0.0, (1 - self.left) / self.per_second)


class Source:
    """Numbers, retains, beats and repairs. One thread does it all, so wire order is number order."""

    def __init__(self, connection, name, scope, retain):
        self.connection, self.name, self.scope, self.retain = connection, name, scope, retain
        self.epoch = time.time_ns() // 1_000
        self.began = time.monotonic()
        self.lead, self.retained = 0, {}
        self.last_on = {} if set(scope) & set("*>") else None
        self.usual_pause, self.last_at = 0.0, None
        self.interval, self.due = FIRST_MIN, 0.0
        self.recent, self.asked_at, self.repairs = {}, 0.0, 0
        self.budget, self.budgets = Budget(*BUDGET), {}
        self.connection.subscribe(f"{CONTROL}.RX.{name}.{self.epoch}")
        self.beat("hello")

    def stamp(self, seq, prev=None):
        return f"Seq: {self.name}.{self.epoch}.{seq}" + ("" if prev is None else f".{prev}")

    def trail(self):
        while self.retained and time.monotonic() - self.retained[oldest := next(iter(self.retained))][0] > AGE_MAX:
            del self.retained[oldest]
        return self.lead + 1 - len(self.retained)

    def publish(self, subject, payload, headers=()):
        now = time.monotonic()
        self.lead += 1
        prev = None
        if self.last_on is not None:
            # Who hears some of the subjects only learns what it misses on them.
            prev, self.last_on[subject] = self.last_on.get(subject, 0), self.lead
        self.retained[self.lead] = (now, subject, prev, payload, headers)
        if len(self.retained) > self.retain:
            del self.retained[next(iter(self.retained))]
        self.connection.publish(subject, payload, [self.stamp(self.lead, prev), *headers])
        if self.last_at is not None:
            self.usual_pause += (min(now - self.last_at, FIRST_MAX) - self.usual_pause) / 8
        self.last_at = now
        self.interval = self.first()
        self.due = now + self.interval

    def first(self):
        """Silence is news when it is longer than four usual pauses."""
        return min(max(4 * self.usual_pause, FIRST_MIN), FIRST_MAX)

    def heartbeat(self, kind):
        now = time.monotonic()
        body = {"v": 1, "k": kind, "scope": self.scope, "trail": self.trail(), "cg": 1}
        # A run must not seem younger than it is.
        body |= {"next": max(1, round(1e3 * (self.due - now))), "age": math.ceil(1e3 * (now - self.began))}
        return json.dumps(body).encode()

    def beat(self, kind):
        self.interval = min(max(2 * self.interval, self.first()), INTERVAL_MAX)
        self.due = time.monotonic() + self.interval
        self.connection.publish(heartbeat_subject(self.scope), self.heartbeat(kind), [self.stamp(self.lead)])

    def serve(self, until, kind="hb"):
        """Answers requests and beats up to the moment `until`."""
        while True:
            for _, _, reply, _, _, payload in self.connection.messages(min(until, self.due)):
                self.answer(reply, payload.decode("latin-1"), kind)
                self.connection.flush()
            now = time.monotonic()
            if now >= self.due:
                self.beat(kind)
                self.connection.flush()
            if now >= until:
                return

    def answer(self, reply, request, kind):
        now = time.monotonic()
        # A requester must not make the source publish elsewhere in its name.
        is_allowed = reply.startswith("_INBOX.") and len(reply) <= REPLY_SUBJECT_BYTES_MAX
        is_repeated = now - self.recent.get((reply, request), -1.0) <= REPEAT_SECONDS
        if not is_allowed or set(reply) & set("*>") or is_repeated:
            return
        self.recent = {asked: at for asked, at in self.recent.items() if now - at <= REPEAT_SECONDS}
        self.recent[reply, request] = self.asked_at = now
        requester = ".".join(reply.split(".")[:2])
        self.budgets = {name: budget for name, budget in self.budgets.items() if now - budget.at < 1.0}
        budgets = [self.budget, self.budgets.setdefault(requester, Budget(*REQUESTER_BUDGET))]
        wait = max(budget.wait() for budget in budgets)
        if wait > 1.0:
            return
        if wait:
            self.say(budgets, reply, b"", [self.stamp(self.lead), f"Seq-Retry: {math.ceil(1e3 * wait)}"], " 429 Slow Down")
            return
        if request == "?":
            self.say(budgets, reply, self.heartbeat(kind), [self.stamp(self.lead)])
            return
        ranges = read_ranges(request) if len(request) <= REQUEST_BYTES_MAX else None
        if ranges is None or len(ranges) > REQUEST_RANGES_MAX:
            self.say(budgets, reply, b"", [self.stamp(self.lead)], " 400 Bad Request")
            return
        trail, gone, sent, sent_bytes, has_more = self.trail(), [], 0, 0, False
        for start, end in ranges:
            end = min(end, self.lead)
            if start <= min(end, trail - 1):
                gone.append((start, min(end, trail - 1)))
            for seq in range(max(start, trail), end + 1):
                wait = max(budget.wait() for budget in budgets)
                has_more = sent >= REPLY_MESSAGES_MAX or sent_bytes >= REPLY_BYTES_MAX or wait > 0
                if has_more:
                    break
                _, subject, prev, payload, headers = self.retained[seq]
                lines = [self.stamp(seq, prev), f"Seq-Subject: {subject}", *headers]
                sent, sent_bytes = sent + 1, sent_bytes + self.say(budgets, reply, payload, lines)
            if has_more:
                break
        self.repairs += sent
        if wait > 1.0:
            return
        lines = [self.stamp(self.lead), f"Seq-Trail: {trail}"]
        lines += [f"Seq-Gone: {ranges_text(gone)}"] if gone else []
        lines += ["Seq-More: 1"] if has_more else []
        lines += [f"Seq-Retry: {math.ceil(1e3 * wait)}"] if wait else []
        is_nothing = gone and not sent and not has_more
        self.say(budgets, reply, b"", lines, " 404 Not Retained" if is_nothing else " 204 EOB")

    def say(self, budgets, reply, payload, lines, status=""):
        """Answers; returns what that costs."""
        cost = len(reply) + sum(len(line) + 2 for line in lines) + 12 + len(payload)
        for budget in budgets:
            budget.left -= cost
        self.connection.publish(reply, payload, lines, status)
        return cost

    def close(self):
        """Says the end at once and then ever less often, and repairs until nobody has asked for a while."""
        closed_at = self.asked_at = self.due = time.monotonic()
        self.interval = 0.0
        while time.monotonic() < (until := min(self.asked_at + LINGER, closed_at + LINGER_MAX)):
            self.serve(until, "eos")


class Line:
    """One run of one source, as a receiver sees it: every number from `base` to `highest` has one outcome or is missing."""

    def __init__(self, base):
        self.base, self.highest, self.missing = base, base - 1, set()
        self.is_covered = None  # not known
        # Every number that has an outcome, and those that a chain says were sent on a subject that we hear.
        self.decided, self.chained = set(), set()
        self.asked, self.ask_at, self.question_at, self.progress = None, 0.0, 0.0, time.monotonic()
        # What lies before the base is owed too if the run is younger than we are: until that is known, or asked in vain.
        self.joining_until = time.monotonic() + GAP_TIMEOUT if base > 1 else 0.0
        self.questions, self.wrong_epochs, self.heard, self.newest = {}, 0, time.monotonic(), 0
        self.end, self.is_superseded = None, False
        self.delivered = self.repaired = self.duplicates = self.lost = 0

    def is_joining(self):
        return time.monotonic() < self.joining_until

    def is_done(self):
        return (self.end is not None or self.is_superseded) and not self.missing and not self.is_joining()


class Checker:
    """Delivers each number once or reports it lost once, and asks for what is missing."""

    def __init__(self, connection, filter, count="0"):
        self.connection, self.filter, self.lines = connection, filter, {}
        self.left = int(count)
        # Data before heartbeats: then a heartbeat names nothing that is still on its way.
        self.data = connection.subscribe(filter)
        self.heartbeats = connection.subscribe(f"{CONTROL}.HB.{filter}")
        self.inbox = "_INBOX." + "".join(random.choices(string.ascii_letters, k=22))
        connection.subscribe(self.inbox + ".*.*")
        connection.synchronize()
        self.subscribed = time.monotonic()
        print("ready", flush=True)

    def run(self):
        while not self.is_done():
            until = self.wakeup()
            for sid, subject, reply, status, headers, payload in self.connection.messages(until):
                if reply.startswith("$JS.ACK."):
                    headers = {}  # a consumer has numbers of its own
                self.take(sid, subject, status, headers, payload)
                self.ask()
                self.connection.flush()
                if self.is_done() or self.wakeup() < until:
                    break
            self.give_up()
            self.ask()
        sums = {name: sum(getattr(line, name) for line in self.lines.values()) for name in COUNTS}
        self.say("summary", **sums)

    def is_done(self):
        """Whether enough was heard, or every run that was heard has ended and nothing is undecided."""
        if self.left:
            return self.left == sum(line.delivered for line in self.lines.values())
        return bool(self.lines) and all(line.is_done() for line in self.lines.values())

    def take(self, sid, subject, status, headers, payload):
        stamped = stamp(headers.get("Seq"))
        if sid == self.data:
            if stamped and stamped[2] and (line := self.line(stamped, stamped[2])):
                self.deliver(stamped, line, subject, payload, False)
            elif not stamped:
                self.say("unsequenced", subject=subject, payload=payload.decode())
        elif sid == self.heartbeats:
            body = json.loads(payload)
            # Permissions say who may speak for a scope.
            is_in_place = subject == heartbeat_subject(body["scope"])
            if stamped and is_in_place and (line := self.line(stamped, stamped[2] + 1)):
                self.hear(stamped, line, body)
        elif (key := self.key(subject)) in self.lines:
            line = self.lines[key]
            if status == 409:
                if stamped and stamped[0] == key[0] and stamped[1] > key[1]:
                    self.disown(key, line)
            elif status:
                self.finish(key, line, status, headers)
            elif stamped and stamped[:2] == key and "Seq-Subject" in headers:
                self.deliver(stamped, line, headers["Seq-Subject"], payload, True)
            elif stamped and stamped[:2] == key:
                body = json.loads(payload)
                self.hear(stamped, line, body)
                self.join(line, body, line.questions.get(subject.rsplit(".", 1)[-1]))

    def key(self, subject):
        """The run whose answers come to this inbox."""
        place = subject.split(".")[-2]
        return next((key for at, key in enumerate(self.lines) if str(at) == place), None)

    def line(self, stamped, base):
        """Finds or begins the run; None for one that is older than the newest."""
        source, epoch = stamped[:2]
        newest = max((known for name, known in self.lines if name == source), default=0)
        if (source, epoch) not in self.lines:
            if epoch < newest:
                return None
            # Of a later run every number is owed, of the first that is heard only what follows.
            self.lines[source, epoch] = Line(1 if newest else base)
            self.say("epoch", source=source, epoch=epoch, previous=newest or None)
        return self.lines[source, epoch]

    def deliver(self, stamped, line, subject, payload, is_repaired):
        seq, prev = stamped[2:]
        self.advance(line, seq)
        line.heard, line.newest = time.monotonic(), max(line.newest, seq)
        if seq in line.decided or line.is_covered is not False and seq not in line.missing:
            line.duplicates += 1
            return
        line.decided.add(seq)
        line.missing.discard(seq)
        if prev and prev >= line.base and prev not in line.decided:
            line.chained.add(prev)
            # Of a source that we hear a part of only chains tell what is missing.
            line.missing |= {prev} if line.is_covered is False else set()
        line.progress = time.monotonic()
        line.delivered += 1
        line.repaired += is_repaired
        body = payload.decode()
        self.say("message", *stamped[:2], seq=seq, repaired=is_repaired, subject=subject, payload=body)

    def hear(self, stamped, line, body):
        was_covered, line.is_covered = line.is_covered, is_covered(body["scope"], self.filter)
        if was_covered is None and not line.is_covered:
            # The others were not meant for this filter, as far as anybody knows.
            line.missing = line.chained - line.decided
        line.heard = time.monotonic()
        if body["k"] in ("eos", "fenced"):
            line.end = stamped[2]
        if not line.is_covered:
            line.joining_until = 0.0
        self.advance(line, stamped[2])
        prior = body.get("prior") or {}
        for (source, epoch), earlier in self.lines.items():
            if source == stamped[0] and epoch < stamped[1]:
                earlier.is_superseded = True
                if epoch == prior.get("epoch"):
                    self.advance(earlier, prior["lead"])

    def join(self, line, body, asked_at):
        """An answer to the question asked at that moment tells whether the run began after our subscription."""
        if not line.is_joining() or asked_at is None:
            return
        if asked_at - DRIFT * body.get("age", math.inf) / 1e3 >= self.subscribed:
            line.missing |= set(range(1, line.base)) - line.decided
            line.base, line.progress = 1, time.monotonic()
        line.joining_until = 0.0

    def disown(self, key, line):
        """A later run answers for this one: it is over when that is said again and again."""
        now = time.monotonic()
        line.asked, line.ask_at, line.wrong_epochs = None, now + 0.25, line.wrong_epochs + 1
        line.question_at = now + 0.25
        if line.wrong_epochs >= WRONG_EPOCHS_MAX and now >= line.heard + DISOWNED_SECONDS:
            line.is_superseded, line.joining_until = True, 0.0
            self.lose(key, line, set(line.missing), "source_gone")

    def advance(self, line, to):
        if to <= line.highest + JUMP_MAX and line.is_covered is not False:
            if not line.missing:
                line.progress = time.monotonic()
            line.missing.update(range(line.highest + 1, to + 1))
            line.highest = max(line.highest, to)

    def finish(self, key, line, status, headers):
        """An answer has ended."""
        now = time.monotonic()
        lead = stamp(headers.get("Seq"))
        if status in (204, 404) and lead and lead[2] >= line.newest and line.highest > lead[2]:
            # They were never sent.
            line.highest = lead[2]
            line.missing = {seq for seq in line.missing if seq <= line.highest}
        for start, end in read_ranges(headers.get("Seq-Gone", "")) or []:
            self.lose(key, line, {seq for seq in line.missing if start <= seq <= end}, "not_retained")
        pause = (number(headers.get("Seq-Retry", "0")) or 0) / 1e3
        if status == 503:
            # It may be between two connections; whether it is gone, time will tell.
            pause = 0.25
        elif line.asked and not headers.get("Seq-More") and line.missing & line.asked:
            # The same request is answered once in 10 ms only.
            pause = max(pause, 0.016)
        line.asked, line.ask_at = None, now + pause

    def ask(self):
        """Asks each source for its scope, and for what is missing."""
        now = time.monotonic()
        for place, ((source, epoch), line) in enumerate(self.lines.items()):
            to, reply = f"{CONTROL}.RX.{source}.{epoch}", f"{self.inbox}.{place}"
            if (line.is_covered is None or line.is_joining()) and now >= line.question_at:
                line.question_at = now + 0.2
                number = str(len(line.questions) + 1)
                line.questions[number] = now
                self.connection.publish(to, b"?", reply=f"{reply}.{number}")
            if line.is_covered is not None and line.missing and now >= line.ask_at:
                ranges = []
                for seq in sorted(line.missing):
                    if ranges and ranges[-1][1] + 1 == seq:
                        ranges[-1] = (ranges[-1][0], seq)
                    elif len(ranges) == REQUEST_RANGES_MAX or len(ranges_text([*ranges, (seq, seq)])) > 1_000:
                        break
                    else:
                        ranges.append((seq, seq))
                line.asked = {seq for start, end in ranges for seq in range(start, end + 1)}
                line.ask_at = now + random.uniform(0.5, 1.0)
                self.connection.publish(to, ranges_text(ranges).encode(), reply=f"{reply}.0")

    def wakeup(self):
        """When to look again, whether anything comes or not."""
        times = [time.monotonic() + GAP_TIMEOUT]
        for line in self.lines.values():
            if line.is_covered is None or line.is_joining():
                times += [line.question_at, line.ask_at if line.missing else line.question_at]
            elif line.missing:
                times += [line.ask_at, line.progress + GAP_TIMEOUT]
        return min(times)

    def give_up(self):
        """Loses what was not won back although nothing at all came for the gap timeout."""
        for key, line in self.lines.items():
            if line.missing and line.is_covered is not None and time.monotonic() >= line.progress + GAP_TIMEOUT:
                self.lose(key, line, set(line.missing), "timeout")

    def lose(self, key, line, numbers, reason):
        for seq in sorted(numbers):
            self.say("lost", *key, **{"from": seq, "to": seq}, reason=reason)
            line.lost += 1
        line.missing -= numbers
        line.decided |= numbers

    def say(self, event, source=None, epoch=None, **rest):
        print(json.dumps({"event": event, "source": source, "epoch": epoch} | rest), flush=True)


COUNTS = ["delivered", "repaired", "duplicates", "lost"]


def publish(connection, subject, count, name, retain="20000"):
    source = Source(connection, name, subject, int(retain))
    for number in range(1, int(count) + 1):
        source.publish(subject.replace("*", str(number % 10)), f"{name} {number}".encode())
        if number % 100 == 0:
            source.serve(time.monotonic())
    source.close()
    print(json.dumps({"event": "summary", "epoch": source.epoch, "published": source.lead, "repairs": source.repairs}))


def main(url, verb, *arguments):
    connection = Connection(url)
    if verb == "publish":
        publish(connection, *arguments)
    else:
        Checker(connection, *arguments).run()
    connection.synchronize()


main(*sys.argv[1:])
