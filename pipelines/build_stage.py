"""From a recipe to a stage's shards: the page to read first.

Every line makes a node of the plan and runs nothing. `marco-data plan` prints the plan, `build-stage` runs it. A recipe
may name another function of this shape (`pipeline: my_package.my_module:my_function`), which gets the recipe and
returns a plan; steps of its own are pydantic models, see `marco_data.step.Step`.
"""

from marco_data.dataset import Dataset
from marco_data.languages import LANGUAGES
from marco_data.new_languages import require_identified
from marco_data.nodes.cluster_sizes import ClusterSizes, judges
from marco_data.nodes.decide import Decide
from marco_data.nodes.duplicates import find_duplicates
from marco_data.nodes.generate import Generate
from marco_data.nodes.generated import MeasureGenerated, Replace
from marco_data.nodes.measure import Measure
from marco_data.nodes.mix import Mix
from marco_data.nodes.seeds import Seeds
from marco_data.nodes.shards import Shards
from marco_data.nodes.tokenize import Tokenize
from marco_data.recipe import Recipe
from marco_data.step import Step
from marco_data.steps import user_step
from marco_data.steps.apply_limits import ApplyLimits, load_limits, require_limits
from marco_data.steps.identify_language import IdentifyLanguage
from marco_data.steps.measure_quality import MeasureQuality
from marco_data.steps.remove import Remove
from marco_data.steps.select_language import SelectLanguage, thresholds_for
from marco_data.steps.sign import Sign


def build_stage(recipe: Recipe, *, sample: float = 1.0, verify: bool = False) -> Dataset:
    """The plan of one stage. `sample` runs a share of the shards through everything, `verify` hashes whole inputs."""
    sign = Sign(hashes=recipe.steps.dedup.hashes, frames=recipe.steps.sign.frames)
    measure = Measure(
        sources=recipe.used_sources,
        steps=text_steps(recipe, sign),
        languages=recipe.languages,
        shard_bytes=recipe.shards.bytes,
        max_document_bytes=recipe.shards.max_document_bytes,
        floor=recipe.steps.identify_language.floor,
        keep_dropped=recipe.keep_dropped.text,
        sample=sample,
        verify=verify,
    )
    decide = Decide(measure=measure, steps=limits(recipe))
    plan = Dataset().then(measure).then(decide)
    tokenize = Tokenize(tokenizer=recipe.tokenizer.path, end_of_document=recipe.tokenizer.end_of_document)
    mix = Mix(
        family=recipe.family,
        stage=recipe.stage,
        mixture=recipe.mixture,
        budget=recipe.budget,
        languages=recipe.languages,
        seed=recipe.family_seed,
        after=recipe.after,
        rehydrate=recipe.rehydrate,
    )
    if recipe.generate:
        plan = generate(plan, recipe, measure, decide, sign)
    judged = find_duplicates(plan, recipe.steps.dedup, sign, copies=recipe.copies)
    if replacing := tuple(name for name, entry in recipe.generate.items() if entry.make.replaces):
        judged = judged.then(Replace(entries=replacing))
    if recipe.rehydrate is not None:
        judged = judged.then(ClusterSizes(steps=judges([step.name() for step in decide.steps])))
    return judged.then(tokenize).then(mix).then(Shards(tokenize=tokenize, mix=mix, shard_tokens=recipe.shards.tokens))


def generate(plan: Dataset, recipe: Recipe, measure: Measure, decide: Decide, sign: Sign) -> Dataset:
    """Documents that models write from what is kept, measured and judged like what was read.

    What was read is deduplicated first, so that nothing is paid for twice, and then once more with what was made of it.
    """
    plan = find_duplicates(plan, recipe.steps.dedup, sign, scope="seeds", copies=recipe.copies)
    plan = plan.then(Seeds(entries=recipe.generate))
    for name, entry in recipe.generate.items():
        writer = Generate(
            scope=name,
            entry=entry,
            model=recipe.generators[entry.generator],
            tokenizer=recipe.tokenizer.path,
            end_of_document=recipe.tokenizer.end_of_document,
            seed=recipe.family_seed,
        )
        plan = plan.then(writer)
    measured = MeasureGenerated.like(measure)
    return plan.then(measured).then(Decide(scope=measured.scope, measure=measured, steps=decide.steps))


def text_steps(recipe: Recipe, sign: Sign) -> tuple[Step, ...]:
    """The steps that read text, in order: they run once, in the measure pass."""
    steps = recipe.steps
    return (
        steps.normalize,
        *([steps.mask_pii] if steps.mask_pii else []),
        IdentifyLanguage(model=steps.identify_language.model),
        MeasureQuality(),
        *(step for step in extra_steps(recipe) if step.reads_text()),
        *([steps.decontaminate.find] if steps.decontaminate else []),
        sign,
    )


def limits(recipe: Recipe) -> tuple[Step, ...]:
    """The steps that read columns only: they decide, again whenever a limit changes."""
    steps = recipe.steps
    identify, quality = steps.identify_language, steps.quality
    known = load_limits(quality.limits, quality.overrides)
    require_limits(known, recipe.languages)
    require_identified(recipe.languages, identify.model, recipe.used_sources)
    return (
        *([Remove(file=recipe.remove.file)] if recipe.remove else []),
        *([steps.url_block_list] if steps.url_block_list else []),
        SelectLanguage(
            languages=recipe.languages,
            thresholds=thresholds_for(identify.model, tuple(LANGUAGES), identify.threshold),
            check_script=identify.check_script,
            min_share=identify.min_share,
        ),
        ApplyLimits(limits=known, tier_margin=quality.tier_margin, exempt=quality.exempt),
        *(step for step in extra_steps(recipe) if not step.reads_text()),
        *([steps.decontaminate.limits] if steps.decontaminate else []),
    )


def extra_steps(recipe: Recipe) -> list[Step]:
    return [user_step(extra.step, extra.arguments) for extra in recipe.steps.extra]
