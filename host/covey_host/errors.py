"""What went wrong, said to a person: one sentence that says what to do, never a traceback."""

FAILURE = 1  # exit status: it was understood and could not be done
MISUSE = 2  # exit status: what was typed or configured is wrong
INTERRUPTED = 130  # exit status: Ctrl-C, as a shell has it (128 + SIGINT)


class Problem(Exception):
    """One sentence for stderr, and the exit status of the command that it ends.

    A Problem's sentence is also what a control client gets, so it never holds a secret.
    """

    is_in_doubt = False  # of a write: whether it was done, or is done yet, is not known

    def __init__(self, sentence: str, status: int = FAILURE):
        super().__init__(sentence)
        self.sentence = sentence
        self.status = status
