def text(found):
    import json
    return json.dumps(found, indent=1)
def publish(found): pass
