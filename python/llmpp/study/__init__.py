"""Studies: many trainings and measurements as a queue of jobs that can be stopped, killed and resumed.

A study's directory is all that its runs share:

| file | what |
|---|---|
| `results/JOB.json` | what a job brought, see `job_queue.py`; written whole, once |
| `failures/JOB.json` | attempts that failed, see `job_queue.py`; gone when the job is done |
| `claims/JOB.json` | who does a job just now, see `claim.py` |
| `work/JOB/` | files of a job's own, such as checkpoints |
| `work/find-DIGEST/` | a training of what searches found, and which job it counts for, see `finds.py` |
| `locks/`, `logs/` | locks of jobs being done; what workers printed |

Nothing here needs torch but `kinds.py` and `search_kinds.py`, which hold what jobs do.
"""
