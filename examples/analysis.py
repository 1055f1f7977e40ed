"""Analyses a table of orders: revenue by month and region, the best products, a bootstrap of the mean order.

Writes summary.csv and revenue.png into the working directory. Usage: analysis.py [sales.csv]
"""

import sys
import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

BATCHES = 8
RESAMPLES = 400


def read(path: str) -> pd.DataFrame:
    orders = pd.read_csv(path, parse_dates=["date"])
    orders["revenue"] = orders["units"] * orders["unit_price"] * (1 - orders["returned"])
    orders["month"] = orders["date"].dt.to_period("M").astype(str)
    return orders


def bootstrap(values: np.ndarray) -> tuple[float, float]:
    """A 95 % interval of the mean, computed in batches so that there is something to watch."""
    dice = np.random.default_rng(7)
    means = []
    for batch in range(1, BATCHES + 1):
        for _ in range(RESAMPLES):
            means.append(dice.choice(values, size=len(values)).mean())
        print(f"  resampling {batch * 100 // BATCHES:3d} %  ({len(means)} means)", flush=True)
        time.sleep(0.25)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def draw(table: pd.DataFrame, path: str) -> None:
    figure, axes = plt.subplots(figsize=(8, 4.5))
    table.plot(kind="bar", stacked=True, ax=axes, width=0.8)
    axes.set_ylabel("revenue in euro")
    axes.set_title("Revenue by month and region")
    axes.legend(title="region")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    path = sys.argv[1] if len(sys.argv) > 1 else "sales.csv"
    print(f"Reading {path}", flush=True)
    orders = read(path)
    print(f"  {len(orders)} orders from {orders['date'].min():%Y-%m-%d} to {orders['date'].max():%Y-%m-%d}", flush=True)
    returned = int(orders["returned"].sum())
    if returned:
        print(f"warning: {returned} orders were returned and count as no revenue", file=sys.stderr, flush=True)

    print("Computing", flush=True)
    by_month = orders.pivot_table(index="month", columns="region", values="revenue", aggfunc="sum", fill_value=0.0)
    best = orders.groupby("product")["revenue"].sum().sort_values(ascending=False)
    low, high = bootstrap(orders["revenue"].to_numpy())

    print("Writing", flush=True)
    summary = by_month.assign(total=by_month.sum(axis=1)).round(2)
    summary.to_csv("summary.csv")
    draw(by_month, "revenue.png")

    print(f"Total revenue: {orders['revenue'].sum():,.2f} euro; mean order {orders['revenue'].mean():.2f} (95 % between {low:.2f} and {high:.2f})")
    for name, revenue in best.items():
        print(f"  {name:<14}{revenue:>12,.2f}")


if __name__ == "__main__":
    main()
