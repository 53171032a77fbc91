"""PURE: medians, spreads, and ratios within one rotation."""

from statistics import median


class Spread:
    """Values of several rounds: their median, and from where to where they go."""

    def __init__(self, values):
        self.values = sorted(values)

    def __bool__(self):
        return bool(self.values)

    @property
    def median(self):
        return median(self.values)

    @property
    def low(self):
        return self.values[0]

    @property
    def high(self):
        return self.values[-1]

    def json(self):
        if not self.values:
            return None
        return {"median": self.median, "low": self.low, "high": self.high, "rounds": len(self.values)}


class Results:
    """All runs so far, as dictionaries; only valid ones are looked at."""

    def __init__(self, runs):
        self.by = {}
        for run in runs:
            if run["valid"]:
                self.by.setdefault((run["cell"], run["contender"]), {})[run["round"]] = run

    def rounds(self, cell, contender, field):
        """Round by round; rounds without the value are left out."""
        runs = self.by.get((cell, contender), {})
        return {n: run[field] for n, run in runs.items() if run.get(field) is not None}

    def spread(self, cell, contender, field):
        return Spread(self.rounds(cell, contender, field).values())

    def pairs(self, cell, field, one, other):
        """Values of two contenders of the same rotation."""
        a, b = self.rounds(cell, one, field), self.rounds(cell, other, field)
        return [(a[n], b[n]) for n in a if n in b]

    def ratio(self, cell, field, one, other):
        return Spread(a / b for a, b in self.pairs(cell, field, one, other) if b)

    def difference(self, cell, field, one, other):
        return Spread(a - b for a, b in self.pairs(cell, field, one, other))


# A process that waits longer for its core shares it with strangers.
QUIET_SHARE_MOST = 0.05


def quiet(runs):
    """In words, whether the process in the middle had its core for itself."""
    shares = Spread(run["waited_share"] for run in runs if run["valid"] and run.get("waited_share") is not None)
    if not shares:
        return "not looked at"
    disturbed = sum(share > QUIET_SHARE_MOST for share in shares.values)
    return (
        f"the process in the middle waited for its core {100 * shares.median:.1f} % of its time (median), at most "
        f"{100 * shares.high:.0f} %; more than {100 * QUIET_SHARE_MOST:.0f} % in {disturbed} of {len(shares.values)} runs"
    )
