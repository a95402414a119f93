"""Checks an SBOM against the schema of CycloneDX, and that it lists every package of `cargo tree` on stdin; see scripts/package.

    sbom_check.py SBOM.cdx.json
"""

import json
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        text = file.read()
    document = json.loads(text)
    wrong = [str(error) for error in JsonStrictValidator(SchemaVersion.from_version(document["specVersion"])).validate_str(text, all_errors=True) or []]
    components = document["components"]
    listed = {(component["name"], component["version"]) for component in components}
    listed.add((document["metadata"]["component"]["name"], document["metadata"]["component"]["version"]))
    linked = {tuple(line.split()[:2]) for line in sys.stdin if line.strip()}
    linked = {(name, version.removeprefix("v")) for name, version in linked}
    wrong += [f"{name} {version} is missing" for name, version in sorted(linked - listed)]
    wrong += [f"{component['name']} has no licence" for component in components if not component.get("licenses")]
    for why in wrong:
        print(f"sbom: {why}", file=sys.stderr)
    print(f"sbom: {len(components)} components of CycloneDX {document['specVersion']}, {len(linked)} linked packages, {len(wrong)} faults")
    return 1 if wrong else 0


sys.exit(main())
