"""Writes sales.csv: invented orders of a small shop over one year. Deterministic: the same seed gives the same file, byte for byte."""

import csv
import datetime
import random
import sys

SEED = 20240229
ORDERS = 600
REGIONS = {"north": 1.0, "south": 0.8, "east": 1.25, "west": 0.6}
PRODUCTS = {
    # name: (price in euro, popularity)
    "notebook": (4.90, 9),
    "desk lamp": (39.00, 3),
    "fountain pen": (24.50, 4),
    "backpack": (64.00, 2),
    "office chair": (189.00, 1),
}


def main(path: str) -> None:
    dice = random.Random(SEED)
    first = datetime.date(2025, 1, 1)
    rows = []
    for _ in range(ORDERS):
        day = dice.randrange(365)
        # More is sold before the holidays and at the start of term.
        if dice.random() > 0.55 + (0.45 if day > 320 or 235 < day < 260 else 0.0):
            day = dice.randrange(365)
        region = dice.choices(list(REGIONS), weights=list(REGIONS.values()))[0]
        product = dice.choices(list(PRODUCTS), weights=[p[1] for p in PRODUCTS.values()])[0]
        price = PRODUCTS[product][0] * dice.choice([1.0, 1.0, 1.0, 0.9, 0.8])
        units = max(1, round(dice.gammavariate(2.0, 1.4)))
        returned = 1 if dice.random() < 0.04 else 0
        rows.append([(first + datetime.timedelta(days=day)).isoformat(), region, product, units, f"{price:.2f}", returned])
    rows.sort()
    with open(path, "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["date", "region", "product", "units", "unit_price", "returned"])
        out.writerows(rows)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "sales.csv")
