"""Which of a run's epochs belong to which phase of its recipe."""

from dataclasses import dataclass

from training.recipes.recipe import Phase, Recipe


@dataclass(frozen=True)
class Span:
    """A phase and its epochs, counted from 1, both ends included. `instant_head`: nothing is learnt step by step, the
    linear head is solved for at once."""

    phase: Phase
    first: int
    last: int
    instant_head: bool = False

    @property
    def epochs(self) -> int:
        """At least 1."""
        return self.last - self.first + 1

    def __str__(self) -> str:
        stages, lr, factor = self.phase.unfrozen_stages, self.phase.lr, self.phase.backbone_lr_factor
        if self.instant_head:
            return "the head alone is fitted, at once"
        if stages == 0:
            return f"the head alone learns, at {lr:.1e}"
        rest = "everything else" if stages is None else "the last stage" if stages == 1 else f"the last {stages} stages"
        if factor != 1:
            return f"the head learns at {lr:.1e}, {rest} at {factor * lr:.1e}"
        return f"everything learns at {lr:.1e}" if stages is None else f"the head and {rest} learn at {lr:.1e}"


def spans(recipe: Recipe) -> list[Span]:
    """The recipe's phases in order; its own keys are the only one where it has none. Each has an epoch or more.

    Where the head is fitted at once, that is the first epoch, in which nothing else learns; the phases share the rest.
    """
    only = Phase(
        share=1,
        lr=recipe.lr,
        schedule=recipe.schedule,
        unfrozen_stages=recipe.unfrozen_stages,
        backbone_lr_factor=recipe.backbone_lr_factor,
    )
    found, phases = [], recipe.phases or (only,)
    if at_once := int(recipe.head_fit == "logistic"):
        head = Phase(share=1, lr=recipe.lr, schedule="constant", unfrozen_stages=0)
        found, phases = [Span(head, 1, 1, instant_head=True)], phases if recipe.epochs > 1 else ()
    last, share, total = at_once, 0.0, sum(phase.share for phase in phases)
    for left, phase in zip(range(len(phases) - 1, -1, -1), phases, strict=True):
        share += phase.share / total
        until = at_once + round(share * (recipe.epochs - at_once))
        first, last = last + 1, min(max(last + 1, until), recipe.epochs - left)
        found.append(Span(phase, first, last))
    return found
