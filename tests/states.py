"Nested states, walked leaf by leaf."


def leaves(state, path=""):
    "Path and value of every leaf of nested dictionaries, lists and tuples."
    if isinstance(state, dict | list | tuple):
        for key, value in state.items() if isinstance(state, dict) else enumerate(state):
            yield from leaves(value, f"{path}/{key}")
    else:
        yield path, state
