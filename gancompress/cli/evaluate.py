"""`gancompress evaluate`."""

from __future__ import annotations

from dataclasses import fields

from gancompress.cli.context import Context, model_of
from gancompress.errors import ConfigError
from gancompress.pipeline.evaluation import EvaluateOptions, plan_evaluation, run_plan
from gancompress.report import aligned_text


def run_evaluate(context: Context) -> None:
    """Translate a split, score it, and write table, JSON, images and page."""
    args = context.args
    if args.set:
        raise ConfigError(f"--set has no effect on this command: {args.set[0]}")
    args.seed = args.seed or 0
    options = EvaluateOptions(
        **{key.name: getattr(args, key.name) for key in fields(EvaluateOptions)}
    )
    plan = plan_evaluation(model_of(args), options, context.device)
    subnet = f", subnet {plan.model.subnet}" if plan.model.subnet else ""
    context.say(f"{plan.model.name}{subnet}, {plan.size}x{plan.size}, {plan.about}")
    if args.dry_run:
        context.result({**plan.subnets, "split": plan.about, "size": plan.size})
        return
    found = run_plan(plan)
    if found.table is not None:
        context.say(aligned_text(found.table))
        context.say(found.table.caption)
    else:
        why = "; ".join(found.left_out) or "with --features none, no applicable metric remains"
        context.say(f"no scores: {why}")
    context.say(f"{found.output}: scores.json, images/\nreport: {found.output / 'report.html'}")
    context.result(found.summary)
