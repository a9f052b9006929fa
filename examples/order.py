"""Orders, from the basket to the doorstep: retries, a way back where it fails, and a context that tells the story.

    python -m floxide_mp examples.order
    python -m floxide_mp examples.order --input '[{"number": 7, "item": "lamp", "card": "expired"}]'

Every order is a run of its own, with a context of its own. ``pay`` and ``reserve`` have ways for their failures, and
those end at ``notify`` like the straight one; an order that makes no sense fails its run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from floxide_mp import (
    Abort,
    Context,
    Coordinator,
    EventLog,
    RetryPolicy,
    RunFailedError,
    SharedState,
    Workflow,
    node,
)

STOCK = {"lamp": 1, "chair": 2, "piano": 99}  # how many times the warehouse must be asked until it has found one


@dataclass(frozen=True)
class Order:
    number: int
    item: str
    quantity: int = 1
    card: str = "good"


@dataclass
class Story(Context):
    status: SharedState[str] = field(default_factory=lambda: SharedState("received"))
    events: EventLog[str] = field(default_factory=EventLog)

    def now(self, status: str) -> None:
        self.status.set(status)
        self.events.append(status)


@node
def validate(ctx: Story, order: Order) -> Order | Abort:
    if order.quantity < 1:
        return Abort(ValueError(f"{order.quantity} of {order.item} makes no sense"))
    ctx.now("valid")
    return order


@node
def pay(ctx: Story, order: Order) -> Order:
    if order.card != "good":
        raise PermissionError(f"the card is {order.card}")
    ctx.now("paid")
    return order


@node(retry=RetryPolicy(max_attempts=3, initial_backoff=0.01))
def reserve(ctx: Story, order: Order) -> Order:
    if ctx.item.attempt < STOCK[order.item]:
        raise LookupError(f"no {order.item} was found")
    ctx.now(f"reserved at attempt {ctx.item.attempt}")
    return order


@node
def refuse(ctx: Story, order: Order) -> Order:
    ctx.now(f"refused: {ctx.item.error}")
    return order


@node
def refund(ctx: Story, order: Order) -> Order:
    ctx.now(f"refunded: {ctx.item.error}")
    return order


@node
def notify(ctx: Story, order: Order) -> str:
    return f"order {order.number} ({order.item}): {ctx.status.get()}"


class Orders(Workflow):
    context = Story

    validate, pay, reserve = validate, pay, reserve
    refuse, refund, notify = refuse, refund, notify

    start = validate
    edges = {validate: [pay], pay: [reserve], reserve: [notify], refuse: [notify], refund: [notify]}
    on_failure = {pay: [refuse], reserve: [refund]}

    cli_defaults = {
        "input": [
            {"number": 1, "item": "lamp"},
            {"number": 2, "item": "chair", "quantity": 4},
            {"number": 3, "item": "piano"},
            {"number": 4, "item": "lamp", "card": "expired"},
            {"number": 5, "item": "lamp", "quantity": 0},
        ]
    }

    @staticmethod
    def cli_input(value: list[dict[str, Any]]) -> list[Order]:
        return [Order(**order) for order in value]

    @staticmethod
    def cli_run(coordinator: Coordinator, orders: list[Order]) -> Iterator[str]:
        runs = [coordinator.start(Orders, order, run_id=f"order-{order.number}") for order in orders]
        for run in runs:
            try:
                yield run.wait().output
                yield f"  {' > '.join(run.context().events)}"
            except RunFailedError as error:
                yield str(error)
