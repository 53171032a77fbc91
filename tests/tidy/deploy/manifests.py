"""What the tests of deploy/ cannot do without a YAML parser and the schemas of Kubernetes.

  manifests.py json FILE...                every document of each file, as JSON
  manifests.py validate VERSION FILE...    each document against the schemas of that Kubernetes, strictly

Needs kubernetes-validate, which brings PyYAML and all schemas with it.
"""

import json
import sys

import yaml


def documents(path):
    with open(path, encoding="utf-8") as file:
        return [document for document in yaml.safe_load_all(file) if document is not None]


def whole(document):
    """A patch of a Deployment says only part of it: its pod, with a gateway in it, can be judged."""
    template = document.get("spec", {}).get("template", {})
    if document["kind"] != "Deployment" or "selector" in document["spec"]:
        return document
    spec = dict(template["spec"])
    spec["containers"] = spec.get("containers", []) + [{"name": "gateway", "image": "gateway"}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "patched"}, "spec": spec}


def validate(version, paths):
    import kubernetes_validate

    wrong, judged = [], 0
    for path in paths:
        for document in documents(path):
            kind = document.get("kind")
            # Schemas of their own: the Prometheus operator's and kustomize's.
            if kind in ("PodMonitor", "Kustomization", "Component"):
                continue
            try:
                kubernetes_validate.validate(whole(document), version, strict=True)
                judged += 1
            except kubernetes_validate.ValidationError as error:
                place = "/".join(str(part) for part in error.path)
                wrong.append(f"{path}: {kind}: {place}: {error.message}")
            except kubernetes_validate.SchemaNotFoundError:
                wrong.append(f"{path}: {kind}: no such kind in Kubernetes {version}")
    for line in wrong:
        print(line)
    print(f"{judged} judged")
    return 1 if wrong else 0


def main(arguments):
    command, rest = arguments[0], arguments[1:]
    if command == "json":
        json.dump({path: documents(path) for path in rest}, sys.stdout)
        return 0
    return validate(rest[0], rest[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
