"""The embedded emoji data: 6,628 drawings of 64 px by five design teams, with captions, in 98 Unicode sub-groups.

5,607 training and 1,021 test rows; no test concept and no test caption stands in the training split. Captions are templates filled with
CLDR names and keywords, the style of the vendor and colours measured in the pixels. Licences: see `emoji64/NOTICE.md`.
"""

from pathlib import Path

FOLDER = Path(__file__).parent / "emoji64"
