"""What results were made with: digests of the models that jobs leave to others, so that none are mixed up.

A job that leaves a model says `sha256` in its outcome, and one that uses models `made_with`: `{job: sha256}`.
Results of older versions say neither, and are taken as they are.
"""

from llmpp.errors import InputError
from llmpp.study.job_queue import RESULT_SCHEMA
from llmpp.study.place import Place
from llmpp.text import read_record

_MOST_NAMED = 5


def check_model(place: Place, job: str, sha256: str) -> None:
    """Checks that a job's model is the one that its result tells of, and that other results were made with.

    Args:
        place: Where the study is.
        job: Id of the job that left the model.
        sha256: The digest of the model that is there.

    Raises:
        InputError: If it is another one.
    """
    known = place.outcome(job).get("sha256", sha256) if place.is_done(job) else sha256
    if known != sha256:
        raise InputError(
            f"the model in {place.work(job)} is another one ({sha256:.12}) than the job's result tells of "
            f"({known:.12}): put the files there that the job left, or remove {job}.json and the results "
            f"made with it from {place.directory / 'results'}"
        )
    check_made_again(place, job, sha256)


def check_made_again(place: Place, job: str, sha256: str) -> None:
    """Checks that no result was made with another model of a job than the one that is there now.

    Args:
        place: Where the study is.
        job: Id of the job that left the model.
        sha256: The digest of the model that is there.

    Raises:
        InputError: If there are such results.
    """
    others = {name: known for name, known in _users(place, job).items() if known != sha256}
    if others:
        names = ", ".join([*list(others)[:_MOST_NAMED], *(["and more"] if len(others) > _MOST_NAMED else [])])
        raise InputError(
            f"{job} came out as another model ({sha256:.12}) than the one ({min(others.values()):.12}) that "
            f"these results in {place.directory} were made with: {names}. Copy {place.work(job)} from where "
            f"they were made, or remove these results and {job}.json; then go on by --retry-failed"
        )


def _users(place: Place, job: str) -> dict[str, str]:
    """Lists the results that were made with a job's model, and the digest that it had."""
    found = {}
    for path in sorted((place.directory / "results").glob("*.json")):
        made_with = read_record(path, RESULT_SCHEMA)["outcome"].get("made_with", {})
        if job in made_with:
            found[path.stem] = str(made_with[job])
    return found
