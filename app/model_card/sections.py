"""The model card: what the artifact says about its model, in words; what it does not say is not made up."""

from collections.abc import Iterable
from typing import Any

from app.artifact.decoder.decode import InputSpec
from app.artifact.doubt import Doubt, Doubted
from app.artifact.manifest import Card, Manifest
from app.artifact.report import Report
from app.http.schemas import CardSection
from app.inference.loading import Served

_UNSTATED = "Not stated by the author."


def of(served: Served, report: Report) -> list[CardSection]:
    """The whole card, in the order of Hugging Face's: the model, its use, training, data, evaluation."""
    manifest, measured = served.manifest, report.evaluation
    recall = (
        [f"Recall: the share of a class's images that are answered with it, on {measured.split}."] if measured else []
    )
    gates = [f"CPU time is one thread's of {manifest.machine.cpu} ({manifest.machine.instruction_set})."]
    gates += [f"Gates of the export: {report.gates}."] if report.gates else []
    metrics = manifest.metrics
    wrong = (
        f"Of images like those of its test, {percent(1 - metrics.score.accuracy)} are answered wrongly."
        if metrics
        else "How many are answered rightly was not measured here."
    )
    card = manifest.card or Card()
    return [
        _section("Model", f"An image classifier of {len(manifest.labels)} classes.", rows=_model(manifest)),
        _section(
            "What it is for",
            card.purpose or _UNSTATED,
            *([card.limits] if card.limits else []),
            "One of the classes is answered for every image, also for one that shows none of them.",
            wrong,
        ),
        _section("Classes", *recall, head=["class", "images", "recall", "most often called"],
                 rows=_classes(manifest, report))
        if metrics else _section("Classes", "; ".join(manifest.labels)),
        _section("How it was measured", rows=_measured(manifest, report)),
        _section("Confidence", *_confidence(manifest, report)),
        _section("What it sees of an image", preprocessing(manifest.input)),
        _section("Variants", *gates, head=["variant", "accuracy", "agrees", "ms/image", "verdict"],
                 rows=_variants(manifest, report)),
        _section("Data", rows=_data(manifest)),
        _section("Training", rows=_training(manifest)),
        _section("This process", rows=_process(served)),
    ]  # fmt: skip


def preprocessing(spec: InputSpec) -> str:
    """What the decoder does to an image, in words."""
    share = percent(spec.crop_fraction)
    kept = "" if spec.crop_fraction == 1 else f", of which the middle {share} of each side is kept"
    shape = "square" if spec.width == spec.height else f"{spec.width}:{spec.height}"
    colours = "RGB" if spec.channels == 3 else "grey (Rec. 601 luma)"
    fitted = {
        "crop": f"the largest centred {shape} crop",
        "squash": "the whole image, whatever its shape",
        "pad": f"the whole image, with grey (114 of 255) around it to make it {shape}",
    }
    unseen = "" if spec.fit != "crop" and not kept else " What lies outside is not seen."
    return (
        f"EXIF orientation applied, transparency on white, {colours}; {fitted[spec.fit]}{kept}, "
        f"resized to {spec.width} x {spec.height} ({spec.interpolation}, antialiased).{unseen}"
    )


def _section(title: str, *text: str, head: list[str] | None = None, rows: Iterable[list[str]] = ()) -> CardSection:
    return CardSection(title=title, text=list(text), head=head or [], rows=list(rows))


def _model(manifest: Manifest) -> Iterable[list[str]]:
    recipe = _part(manifest.provenance, "recipe")
    yield ["name and version", f"{manifest.name} {manifest.version}"]
    yield ["network", str(recipe.get("model", _UNSTATED))]
    yield ["exported", manifest.created]
    # whoever trains on from others' weights has one to state; who serves them as they are has theirs
    published = {} if manifest.metrics else _part(manifest.provenance, "weights")
    stated = manifest.card.licence if manifest.card else ""
    yield ["licence", stated or str(published.get("licence", _UNSTATED))]
    yield ["digest", manifest.digest]


def _classes(manifest: Manifest, report: Report) -> Iterable[list[str]]:
    measured = {row.label: row for row in report.evaluation.per_class} if report.evaluation else {}
    for label in manifest.labels:
        if row := measured.get(label):
            confused = f"{row.confused} ({row.confused_n})" if row.confused else ""
            yield [label, f"{row.n:,}", percent(row.recall), confused]
        else:
            yield [label, "", "not measured", ""]


def _measured(manifest: Manifest, report: Report) -> Iterable[list[str]]:
    metrics = manifest.metrics
    if not metrics:
        stated = _part(manifest.provenance, "weights").get("accuracy")
        yield ["accuracy", f"not measured here; {stated}" if stated else "not measured"]
        return
    score = metrics.score
    right, interval = round(score.accuracy * score.n), f"95 % interval {score.low:.4f} to {score.high:.4f}"
    yield ["accuracy", f"{score.accuracy:.4f} ({right:,} of {score.n:,}, {interval})"]
    yield ["macro F1", f"{metrics.macro_f1:.4f}"]
    most = f'"{report.evaluation.majority_label}"' if report.evaluation else "the most frequent class"
    yield [f"always {most}", percent(metrics.majority)]
    unseen = " that no decision looked at" if score.split == "test" else ""
    yield ["measured on", f"{score.split}, {score.n:,} images{unseen}"]
    if report.probable_wrong_labels:
        yield ["probably wrong labels", f"{report.probable_wrong_labels} of them"]


def _confidence(manifest: Manifest, report: Report) -> Iterable[str]:
    judged = report.evaluation.calibration if report.evaluation else None
    if not manifest.metrics:
        yield "Probabilities are the network's own, with temperature 1: without labelled images nothing was fitted."
        return
    yield (
        f"Probabilities have temperature {manifest.temperature:.3f}; "
        f"expected calibration error {manifest.metrics.ece:.4f}{f', {judged.verdict}' if judged else ''}."
    )
    if line := report.reject_below:
        right = "" if line.accuracy is None else f", of which {percent(line.accuracy)} are right"
        yield (
            f"Suggested line: below {percent(line.confidence)} let a person look; "
            f"{percent(line.coverage)} of the test's images lie above it{right}."
        )
    elif report.fitted:
        yield "A line below which a person should look: none that the images of val could show to help."
    else:
        yield "A line below which a person should look: not stated."
    if (doubt := manifest.doubt) is None:
        if unfamiliar := report.unfamiliar:
            yield (
                f"Unfamiliar images: {unfamiliar.method} of the logits above {unfamiliar.threshold:.2f}; "
                f"that calls {percent(unfamiliar.false_alarm_rate)} of the test's own images unfamiliar."
            )
        return
    said = manifest.variants[manifest.default_variant].doubt
    assert said is not None
    yield _unfamiliar(doubt, said)
    yield _sets(doubt, said)


def _unfamiliar(doubt: Doubt, said: Doubted) -> str:
    if doubt.unfamiliar is None:
        return f"It never says that an image is unfamiliar: {doubt.n:,} images of val are too few to know."
    where = "at no place of it" if doubt.unfamiliar.score == "max-local-logit" else "nowhere in it"
    return (
        f"It says that an image is unfamiliar where {where} the evidence for a class reaches "
        f"{-doubt.unfamiliar.threshold:.2f}, which {percent(doubt.unfamiliar.accepts)} of images like those of val do; "
        f"of the {said.n:,} images of {said.split}, all familiar, {percent(said.unfamiliar or 0)} were called so."
    )


def _sets(doubt: Doubt, said: Doubted) -> str:
    if doubt.set is None:
        return f"It gives no sets of labels: {doubt.n:,} images of val are too few to promise anything of them."
    return (
        f"Its sets of labels are to hold the right one for {percent(doubt.set.coverage)} of images like those of val; "
        f"of {said.n:,} images of {said.split} they did for {percent(said.coverage or 0)}, "
        f"with {said.set_size or 1:.2f} labels on average."
    )


def _variants(manifest: Manifest, report: Report) -> Iterable[list[str]]:
    verdicts = {row.name: row.verdict for row in report.variants}
    for name, variant in manifest.variants.items():
        kept = "kept, default" if name == manifest.default_variant else "kept"
        speed = f"{min(variant.cpu_ms_per_image.values()):.2f}" if variant.cpu_ms_per_image else ""
        accuracy = f"{variant.score.accuracy:.4f}" if variant.score else "not measured"
        yield [name, accuracy, percent(variant.agreement), speed, verdicts.get(name, kept)]


def _data(manifest: Manifest) -> Iterable[list[str]]:
    data = _part(manifest.provenance, "data")
    yield ["source", str(data.get("source", _UNSTATED))]
    for split, count in _part(data, "images").items():
        yield [split, f"{count:,} images" if isinstance(count, int) else str(count)]
    yield ["what and whose", (manifest.card and manifest.card.data) or _UNSTATED]


def _training(manifest: Manifest) -> Iterable[list[str]]:
    provenance = manifest.provenance
    trained, recipe = _part(provenance, "trained"), _part(provenance, "recipe")
    if not manifest.metrics:
        origin = _part(provenance, "weights")
        yield ["as published", f"{origin.get('name')}, {origin.get('source')}, licence {origin.get('licence')}"]
        return
    chosen = ("epochs", "batch_size", "optimizer", "lr", "schedule", "seed", "weights")
    yield ["recipe", ", ".join(f"{key} {recipe[key]}" for key in chosen if recipe.get(key) not in (None, ""))]
    if origin := _part(provenance, "weights"):
        yield ["started from", f"{origin.get('name')}, {origin.get('source')}, licence {origin.get('licence')}"]
    if "best_epoch" in provenance:
        seconds = provenance.get("seconds")
        took = f", {seconds / 60:.0f} min in all" if isinstance(seconds, int | float) else ""
        yield ["best epoch", f"{provenance['best_epoch']}{took}"]
    yield ["when", str(trained.get("created", _UNSTATED))]
    hardware = _part(trained, "hardware")
    yield ["hardware", ", ".join(f"{key} {value}" for key, value in hardware.items() if value) or _UNSTATED]
    yield ["versions", ", ".join(f"{name} {number}" for name, number in _part(trained, "versions").items())]
    yield ["commit", str(trained.get("commit", _UNSTATED))]


def _process(served: Served) -> Iterable[list[str]]:
    yield ["serves", f"{served.variant} on {served.engine.device}"]
    limit = served.proof.tolerance
    yield ["self-test", f"passed: within {served.difference:.2g} of the checkpoint's probabilities (limit {limit:.2g})"]
    if served.warning:
        yield ["warning", served.warning]


def _part(provenance: dict[str, Any], name: str) -> dict[str, Any]:
    """A part of what nothing checks the shape of."""
    part = provenance.get(name)
    return part if isinstance(part, dict) else {}


def percent(share: float) -> str:
    """0.9706 -> `97.1 %`, not to be broken between lines."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"
