"""Who keeps the state of a training in memory, and interrupts it."""


class Interrupted(Exception):
    pass


class Kept:
    """A keeper in memory that interrupts after one update."""

    def __init__(self, at: int | None = None, state=None):
        self.at, self.state = at, state

    def latest(self):
        return self.state

    def after_update(self, training):
        if training.update == self.at:
            state = training.state()
            copies = {key: value.clone() for key, value in state.tensors.items()}
            self.state = type(state)(state.update, copies, state.values)
            raise Interrupted
