"""Measures this package on your machine, beside plain reference procedures.

python scripts/benchmark.py data      from Parquet to training batch, beside pure decoding
python scripts/benchmark.py losses    the word matching loss, beside a loop over the captions
python scripts/benchmark.py evaluate  Frechet distances and Inception features, beside the usual way
python scripts/benchmark.py generate  pictures by eager, compiled and ONNX models, beside plain ones
python scripts/benchmark.py train     training steps at the published sizes, beside the papers'
python scripts/benchmark.py soak      a run killed again and again, beside one left alone

Times are printed as ratios of one run: compare those, not seconds of different machines.
`benchmark.py NAME --help` explains the options of one of them; scripts/benchmarks/README.md has
results.
"""

import argparse
import sys


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME", title="benchmarks")
    try:
        from benchmarks import BENCHMARKS  # here, where Ctrl-C is one line: it imports torch

        for name, benchmark in BENCHMARKS.items():
            benchmark.add_arguments(names.add_parser(name, help=benchmark.HELP, description=benchmark.HELP))
        options = parser.parse_args(arguments)
        BENCHMARKS[options.name].run(options)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
