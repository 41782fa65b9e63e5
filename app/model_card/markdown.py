"""The model card as a Hugging Face README: metadata in YAML, then the sections."""

import json
import re
from collections.abc import Iterable, Sequence

from app.artifact.manifest import Manifest
from app.engines.variants import VARIANTS
from app.http.schemas import CardSection

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#&~])")
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")


def card(manifest: Manifest, sections: Sequence[CardSection]) -> str:
    """A model card with `model-index`: https://huggingface.co/docs/hub/model-cards."""
    parts = [part for section in sections for part in _section(section)]
    return "\n".join([*_metadata(manifest), f"# {plain(manifest.name)} {manifest.version}", "", *parts])


def plain(text: str) -> str:
    """Any text as one line that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", _seen(text))


def _seen(text: str) -> str:
    """What has no image, or no place in YAML, as the escape that Python writes for it."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _quoted(text: str) -> str:
    """As JSON's string, which is YAML's; but not as its surrogate pairs, which YAML reads as two lone ones."""
    return json.dumps(_seen(text), ensure_ascii=False)


def _metadata(manifest: Manifest) -> Iterable[str]:
    """Every name is quoted, so that none can be taken for anything else."""
    data = manifest.provenance.get("data")
    source = _quoted(str(data.get("source", "unknown")) if isinstance(data, dict) else "unknown")
    metrics, name = manifest.metrics, _quoted(manifest.name)
    yield "---"
    yield "pipeline_tag: image-classification"
    if manifest.card and manifest.card.licence:
        yield f"license: {_quoted(manifest.card.licence)}"
    formats = {VARIANTS[name].format if name in VARIANTS else name for name in manifest.variants}
    yield f"tags: [image-classification, sightglass, {', '.join(map(_quoted, sorted(formats)))}]"
    if not metrics:  # an index is of results
        yield "---"
        yield ""
        return
    yield "model-index:"
    yield f"- name: {name}"
    yield "  results:"
    yield "  - task: {type: image-classification}"
    yield f"    dataset: {{name: {source}, type: {source}, split: {_quoted(metrics.score.split)}}}"
    yield "    metrics:"
    yield f"    - {{type: accuracy, value: {metrics.score.accuracy}}}"
    yield f"    - {{type: f1, name: macro F1, value: {metrics.macro_f1}}}"
    yield f"    - {{type: expected_calibration_error, value: {metrics.ece}}}"
    yield "---"
    yield ""


def _section(section: CardSection) -> Iterable[str]:
    yield f"## {section.title}"
    yield ""
    for sentence in section.text:
        yield plain(sentence)
        yield ""
    if section.rows:
        head = section.head or ["", ""]
        yield _row(head)
        yield "|---" * len(head) + "|"
        yield from (_row([plain(cell) for cell in row]) for row in section.rows)
        yield ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
