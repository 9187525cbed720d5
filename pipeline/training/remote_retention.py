"""What need not be kept at a remote: what the policy lets go, and what killed uploads left."""

from collections.abc import Callable, Collection, Sequence

from pipeline.training.remote_registry import RemoteCheckpoint
from pipeline.training.remote_run import RemoteRun

Keep = Callable[[Sequence[int]], Collection[int]]


def retain(
    run: RemoteRun,
    latest: RemoteCheckpoint | None,
    doomed: Collection[int],
    keep: Keep | None,
    busy: Collection[int],
) -> None:
    """Delete the steps in `doomed` and those that `keep` gives up, and write the registry.

    What is listed decides: `latest`, which was just sent, may yet be lost. The newest checkpoint
    that is seen to be complete is never deleted, nor is `latest`; without any, nothing is. What is
    of an attempt that was left behind does not count; it goes as soon as the attempt that counts
    has a complete one, but not by hand, nor without `keep`. Uploads that were broken off are
    deleted if they are of an earlier session or of this one, and their steps are not in `busy`.
    Raises PipelineError.
    """
    run.look()
    run.check_owner()
    seen = run.newest()
    if latest is not None:
        run.arrived(latest)
    abandoned = set(run.abandoned())
    marked = [name for name in run.marked() if name not in abandoned]
    steps = sorted({name.step for name in marked})
    wanted = {*doomed, *(keep(steps) if keep else ())} if seen else set()
    kept = {one.step for one in (seen, latest) if one is not None}
    for name in marked:
        if name.step in wanted - kept:
            run.delete(name)
    if keep is not None and run.is_owner and seen is not None and seen.attempt == run.attempt:
        for name in sorted(abandoned):
            if name.by != run.session:
                run.delete(name)
    for name in run.partial():
        is_own = name.by == run.session and name.step not in busy
        if run.session is not None and (is_own or name.by.term < run.session.term):
            run.delete_partial(name)
    run.save_registry()
