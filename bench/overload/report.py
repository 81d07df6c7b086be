"""The section Overload of docs/benchmarks.md. The other sections are kept."""

from collections.abc import Sequence

from bench.live.report import text
from bench.report import Outcome

HEADING = "## Overload"


def section(outcomes: Sequence[Outcome]) -> str:
    parts = [
        HEADING,
        "Written by `make bench-overload` (`python -m bench.overload`): do not edit. Load generators and servers share "
        "the machine's cores.",
    ]
    for outcome in outcomes:
        c = outcome.circumstances
        parts += [f"### {outcome.title}", outcome.about, text(outcome)]
        parts.append(
            f"`{c['command']}`, {c['at']}, commit {c['commit']}{' with changes' if c['changed'] else ''}; "
            f"{c['cores']} cores ({c['cpu']}), {c['memory_gib']} GiB, Linux {c['kernel']}, {c['file_system']}, "
            f"Python {c['python']}."
        )
    return "\n\n".join(parts) + "\n"


def with_section(page: str, new: str) -> str:
    """The page with this section in place of the old one; before the section Live when it is new."""
    start = page.find(f"\n{HEADING}\n")
    if start < 0:
        live = page.find("\n## Live\n")
        start = end = live if live >= 0 else len(page)
    else:
        end = page.find("\n## ", start + 1)
        end = len(page) if end < 0 else end
    return page[:start].rstrip("\n") + "\n\n" + new.rstrip("\n") + "\n" + page[end:]
