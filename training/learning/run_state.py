"""A run between two epochs: what last.pt holds, and the learner that goes on from there."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.learning.learner import Learner
from training.recipes.recipe import Recipe
from training.runs import checkpoint
from training.runs.history import History, Row


@dataclass
class RunState:
    """`saved`: as checkpoint.save_state takes it; its history is that of `history`."""

    folder: Path
    learner: Learner
    saved: dict[str, Any]
    history: History

    @classmethod
    def load(cls, folder: Path, learner: Learner, recipe: Recipe) -> "RunState":
        """`learner` is as it was after the last finished epoch. Raises TrainingError."""
        saved = checkpoint.load_state(folder)
        with checkpoint.fitting(folder / "last.pt"):
            learner.load_state_dict(saved["learner"])
        return cls(folder, learner, saved, History(recipe, saved["history"]))

    def save(self) -> None:
        """To last.pt, and all that is written from it. Raises TrainingError."""
        checkpoint.save_state(self.folder, self.saved)

    def add(self, row: Row) -> bool:
        """Save what the learner is after one more epoch, and its network where it is the best: whether it is.

        Raises TrainingError.
        """
        self.history.rows.append(row)
        if improved := row is self.history.best:
            self.saved["best"] = {"network": copy.deepcopy(self.learner.validated.state_dict()), "epoch": row["epoch"]}
        self.saved["learner"] = self.learner.state_dict()
        self.save()
        return improved
