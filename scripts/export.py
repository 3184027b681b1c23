"""Writes a saved model, its tokenizer included, as one ONNX file.

python scripts/export.py runs/ssagan-emoji/model --output heart.onnx

The file draws wherever onnxruntime runs; `t2i_supcon.export.OnnxTextToImage` draws from sentences
with it. It needs the extra `onnx`.
"""

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of a saved text-to-image model, or its name on the Hub")
    parser.add_argument("--output", type=Path, default=Path("model.onnx"), help="the file (default: model.onnx)")
    options = parser.parse_args(arguments)

    try:
        from t2i_supcon.export import export_onnx  # after parsing: it imports torch

        apart = export_onnx(options.model, options.output)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    print(options.output)
    print(f"pixels differ from the model's by at most {apart:.1e}", file=sys.stderr)


if __name__ == "__main__":
    main()
