"""The finished epochs of a run: what they compare by, which is the best, and whether more are to come."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from training.console.terminal import count
from training.recipes.recipe import Recipe
from training.recipes.spans import spans

Row = dict[str, Any]
"""Of metrics.jsonl."""
SCORES = {
    "val_accuracy": "accuracy on val",
    "val_macro_f1": "macro F1 on val",
    "val_loss": "loss on val",
}  # by which epochs may compare


def scored_by(recipe: Recipe) -> str:
    """Of a row, what epochs compare by: accuracy, macro F1 where rare classes count as much, or the loss where the
    first epoch is an instant head's: of the few images of such a val, it tells more than their number."""
    if recipe.balance != "none":
        return "val_macro_f1"
    return "val_loss" if spans(recipe)[0].instant_head else "val_accuracy"


def rank(recipe: Recipe) -> Callable[[Row], tuple[float, float]]:
    """`max(rows, key=rank(recipe))` is the best epoch: by its score, of equals by its loss on val.

    After an instant head it is the last epoch whose loss on val is not above the head's by more than the standard error
    of the difference, or the head: not the one with the lowest loss, which of a small val is the luckiest.
    """
    name = scored_by(recipe)
    if name == "val_loss":
        return lambda row: (row["epoch"] if row.get("val_gain", 0) >= -row.get("val_gain_error", 0) else 0, 0)
    return lambda row: (row[name], -row["val_loss"])


@dataclass
class History:
    """`rows`, one per finished epoch of a run by `recipe`."""

    recipe: Recipe
    rows: list[Row]

    @property
    def best(self) -> Row:
        """Of at least one epoch."""
        return max(self.rows, key=rank(self.recipe))

    @property
    def complete(self) -> bool:
        """Whether all epochs are finished, or so many were no better than one before them that no more is hoped for."""
        patience, done = self.recipe.early_stop, len(self.rows)
        hopeless = patience > 0 and done > 0 and done - int(self.best["epoch"]) >= patience
        return done >= self.recipe.epochs or hopeless

    def __str__(self) -> str:
        """Where a run is that goes on."""
        done, of = len(self.rows), self.recipe.epochs
        if done < of and self.complete:
            return f"it was stopped after epoch {done} of {of}, for want of a better one"
        return f"after epoch {done} of {of}" if done < of else f"all {of} epochs are finished"

    def kept(self, images: int) -> str:
        """Of a run that went on from an instant head, which of the two is its best, with what both scored on val, so
        many `images`; else empty."""
        if not spans(self.recipe)[0].instant_head or len(self.rows) < 2:
            return ""
        best, alone, last = self.best, self.rows[0], self.rows[-1]
        tuned = last if best is alone else best
        head, other = (
            f"loss on val {row['val_loss']:.3f}, accuracy {row['val_accuracy']:.3f}" for row in (alone, tuned)
        )
        by = f"{count(images, 'image')}; standard error of the difference {tuned['val_gain_error']:.3f}"
        if best is tuned:
            return f"the fine-tuned network of epoch {tuned['epoch']}: {other}; the head alone: {head} ({by})"
        return f"the head alone: {head}; fine-tuned, epoch {tuned['epoch']}: {other} ({by})"
