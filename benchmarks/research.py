"""All questions of docs/research.md in one pool of processes: layers, sharing, what a Hadamard adapter does.

python -m benchmarks.research --data ../shared/data --backbone DIR --device cuda --workers 16   # resumes
python -m benchmarks.research --table                                    # only print what there is
"""

import sys

from benchmarks import record, research_hadamard, research_layers, research_pool, research_sharing

MODULES = (research_layers, research_sharing, research_hadamard)


def main() -> int:
    args = research_pool.arguments(__doc__, ()).parse_args()
    failed = 0
    if not args.table:
        failed = research_pool.work(research_pool.asked(args), MODULES, args.workers)
    for module in MODULES:
        print(f"\n{module.NAME}\n{module.report(record.read(args.prefix + module.NAME))}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
