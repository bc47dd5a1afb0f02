"""Reads rendered YAML on standard input, checks every object against the strict schemas of the Kubernetes versions
in the arguments, and prints the objects as JSON. Exits with 1 and the complaints when one does not fit."""
import json
import sys

import kubernetes_validate
import yaml

objects = [o for o in yaml.safe_load_all(sys.stdin) if o]
complaints = []
for version in sys.argv[1:]:
    for o in objects:
        # Kubernetes has no schema of other people's kinds.
        if o["apiVersion"].startswith("cert-manager.io/"):
            continue
        try:
            kubernetes_validate.validate(o, version, strict=True)
        except kubernetes_validate.ValidationError as e:
            name = f"{o['kind']} {o['metadata']['name']}"
            complaints.append(f"{name} at {'.'.join(map(str, e.path))} for {version}: {e.message}")
if complaints:
    sys.exit("\n".join(complaints))
json.dump(objects, sys.stdout)
