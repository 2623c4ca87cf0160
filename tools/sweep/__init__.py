"""Many runs of train.py: what they are, in which order, and where they are computed.

    protocols   a protocol, methods, data sets, seeds and shots -> a plan, a list of `Run`
    compare     refuses a plan whose folders hold other runs, before anything starts
    planned     .. in a process of its own, which knows what settings train.py would take
    books       what is known of runs on the disk, beside the runs: OUTPUT/.sweep/
    worker      executes runs one after another; several workers share a list by locks
    child       one train.py, ended by the signals that its parent gets
    local       workers on this machine, through submitit
    slurm       workers as job arrays, through submitit
    places      what of these two the driver needs to know
    driver      starts workers, watches, and reports
    foreground  runs in this terminal, without workers: for the scripts of one method
    status      the table of what is done, running, waiting and failed
    plan, cost  a plan in words, and what it will take, from finished runs
    cli         the command line

No torch but in `planned`: a run is a process of its own, with an exit code that says how it ended.
"""
