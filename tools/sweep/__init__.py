"""Many runs of train.py: what they are, in which order, and where they are computed.

    protocols   a protocol, methods, data sets, seeds and shots -> a plan, a list of `Run`
    books       what is known of runs on the disk, beside the runs: OUTPUT/.sweep/
    worker      executes runs one after another; several workers share a list by locks
    local       workers on this machine, through submitit
    slurm       workers as job arrays, through submitit
    driver      starts workers, watches, and reports
    status      the table of what is done, running, waiting and failed
    cost        what the runs of a plan will take, from finished ones

No torch: a run is a process of its own, with an exit code that says how it ended.
"""
