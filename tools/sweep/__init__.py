"""Many runs of train.py: which, in which order, and where they are computed.

    protocols   a protocol, methods, datasets, seeds and shots -> a list of `Run`
    plan        checks the runs before anything starts, in a process of its own (planned)
    store       what is known of runs on the disk, in OUTPUT/.sweep/
    worker      executes runs one after another; several workers share a list by locks
    process     one train.py as a child process
    executors   start workers: on this machine, or through slurm
    driver      watches the runs, and reports
    status      tables of runs
    cli         the command line

Without torch but in `planned`: a run is a process of its own, whose exit code says how it ended.
"""
